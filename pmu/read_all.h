// All that can be read from a descriptor.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace lbrd::pmu {

// Closes `fd`; `path` is for errors. kResourceExhausted: there are more than `limit` bytes.
// kCancelled: `*stop` was set, at any time and by any thread; nullptr: it goes on to the end.
absl::StatusOr<std::string> ReadAll(int fd, const std::string& path, uint64_t limit,
                                    const std::atomic<bool>* stop = nullptr);

}  // namespace lbrd::pmu
