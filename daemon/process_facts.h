// What /proc says of a process that its files are looked up by.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace lbrd::daemon {

struct ProcessFacts {
  int32_t namespaced_pid = 0;  // as the innermost PID namespace that it is in counts
  uid_t uid = 0;               // effective
  int64_t start_seconds = 0;   // since the epoch
};

// nullopt: it is gone.
std::optional<ProcessFacts> ReadProcessFacts(int32_t pid);

}  // namespace lbrd::daemon
