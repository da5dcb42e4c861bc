// Which processes belong to a user.
//
// The kernel has no events by user, so the whole machine is sampled and samples of other users'
// processes are left out. A process's user is its effective one in /proc/PID/status, looked up when
// the process is first seen and again after an exec, and when what is known is a second old (there
// is no record of setuid). A process that was gone before it could be looked at has the user of the
// process that forked it, as told by PERF_RECORD_FORK; one of which not even that is known belongs
// to nobody. The kernel's idle threads (pid 0) are root's.
//
// Memory: 40 bytes a process that lives. Thread rules: one thread.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "pmu/kernel.h"
#include "pmu/record.h"

namespace lbrd::pmu {

// The effective user of a process; nullopt: it is gone.
std::optional<uint32_t> UserOf(Kernel& kernel, int32_t pid);

class UidFilter {
 public:
  static constexpr uint64_t kFreshNs = 1'000'000'000;

  UidFilter(Kernel& kernel, uint32_t uid) : kernel_(kernel), uid_(uid) {}

  // Forks, execs and exits, in time order.
  void Forked(int32_t pid, int32_t parent_pid);
  void Executed(int32_t pid);
  void Exited(int32_t pid);
  // The process's user; nullopt: nobody's.
  std::optional<uint32_t> User(int32_t pid, uint64_t now);
  // Whether a sample of that process is the user's.
  bool Wanted(int32_t pid, uint64_t now) { return User(pid, now) == uid_; }

 private:
  struct Known {
    std::optional<uint32_t> uid;
    uint64_t looked_at = 0;  // 0: never
  };

  Kernel& kernel_;
  const uint32_t uid_;
  absl::flat_hash_map<int32_t, Known> processes_;
};

}  // namespace lbrd::pmu
