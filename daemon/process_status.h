// What /proc/PID/status says of a process or thread that lbrd decides by.
//
// Thread rules: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

struct ProcessUsers {
  uint32_t real = 0;
  uint32_t effective = 0;
  uint32_t saved = 0;
  uint32_t file_system = 0;

  bool AllAre(uint32_t uid) const {
    return real == uid && effective == uid && saved == uid && file_system == uid;
  }
};

struct ProcessStatus {
  std::optional<ProcessUsers> users;
  // As the innermost PID namespace that it is in counts.
  std::optional<int32_t> namespaced_pid;
  // CapPrm: those that it has, or may have when it wants.
  std::optional<uint64_t> permitted_capabilities;
};

// Such files are made by the kernel, and are shorter.
inline constexpr size_t kMaxStatusBytes = 16 << 10;

// What is missing, or not written as the kernel does, is none.
ProcessStatus ParseProcessStatus(absl::string_view text);

}  // namespace lbrd::daemon
