// Kernel function names: the text of /proc/kallsyms -> address look-up.
//
// Immutable after Parse(), so any thread may look up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lbrd::unwind {

struct KernelSymbol {
  absl::string_view name;
  absl::string_view module;  // empty: the kernel itself; "bpf", a module's name, …
  uint64_t start = 0;
};

class KernelSymbols {
 public:
  // Parses the text of /proc/kallsyms (lines of "address type name [module]"; text symbols are
  // kept: types t, T, w, W). kFailedPrecondition: all addresses are zero, i.e. hidden by
  // kptr_restrict; kInvalidArgument: a malformed line, naming its number.
  static absl::StatusOr<KernelSymbols> Parse(absl::string_view text);

  std::optional<KernelSymbol> Find(uint64_t address) const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint64_t start;
    uint32_t name;
    uint32_t name_size;
    uint32_t module;  // index into modules_
  };
  std::vector<Entry> entries_;  // by start
  std::vector<std::string> modules_;
  std::string names_;
};

}  // namespace lbrd::unwind
