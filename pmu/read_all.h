// All that can be read from a descriptor.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace lbrd::pmu {

// Closes `fd`; `path` is for errors. kResourceExhausted: there are more than `limit` bytes.
absl::StatusOr<std::string> ReadAll(int fd, const std::string& path, uint64_t limit);

}  // namespace lbrd::pmu
