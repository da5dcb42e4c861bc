// What an administrator decides of the history: where it is, how large, how old, how fine.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace lbrd::daemon {

struct HistoryOptions {
  // Of the file: below this, indexes alone would fill it.
  static constexpr uint64_t kLeastBytes = uint64_t{16} << 20;

  std::string path = "/var/lib/lbrd/history.db";
  uint64_t max_bytes = uint64_t{512} << 20;
  absl::Duration max_age = absl::Hours(24 * 7);
  absl::Duration bucket = absl::Seconds(10);
};

}  // namespace lbrd::daemon
