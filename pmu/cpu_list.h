// CPU lists as the kernel writes them in sysfs: "0-3,8,10-11".
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lbrd::pmu {

// Highest CPU number accepted; the kernel's own limit is 8192.
inline constexpr int32_t kMaxCpu = 65535;

// Ascending and without repeats. White space around the list is ignored; an empty list is valid.
// kInvalidArgument names the part that is not a list.
absl::StatusOr<std::vector<int32_t>> ParseCpuList(absl::string_view text);

}  // namespace lbrd::pmu
