// Which samples of a whole machine are of processes that are a user's own: for users who may see no
// others. (pmu/uid_filter.h picks by effective user, for those who may see everything.)
//
// Nothing is shown that is not known to be the user's at the moment it was sampled. What is known
// of a process holds from the moment it was looked at:
//   - a process that is wholly a user's (pmu/ownership.h) can only become another's by executing a
//     program, which a record tells: until then it stays what it is;
//   - a forked child is what its parent was;
//   - what a process was before it was looked at, or did between executing a program and being
//     looked at again, is nobody's.
// So samples taken just after an exec are left out (as long as the session's reader is late, 100 ms
// at most when it keeps up), and with them all of programs that live no longer. Where records were
// lost, everything is forgotten. What is known is looked at again after kFreshNs, in case the end
// of a process was lost with others.
//
// Memory: 40 bytes a process that lives. Thread rules: one thread.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "pmu/kernel.h"
#include "pmu/ownership.h"

namespace lbrd::pmu {

class OwnerFilter {
 public:
  static constexpr uint64_t kFreshNs = 1'000'000'000;

  OwnerFilter(Kernel& kernel, OwnershipOf ownership_of)
      : kernel_(kernel), ownership_of_(std::move(ownership_of)) {}

  // Forks, execs and exits, in time order; `time`: the record's.
  void Forked(int32_t pid, int32_t parent_pid, uint64_t time);
  void Executed(int32_t pid, uint64_t time);
  void Exited(int32_t pid, uint64_t time);
  // Records were lost, or a CPU was not sampled: any of these may have been among them.
  void Lost() { processes_.clear(); }
  // Whether a sample of that process, taken at `time`, is the user's.
  bool Wanted(int32_t pid, uint64_t time);

 private:
  struct Known {
    bool own = false;
    uint64_t since = 0;      // from when on that is known
    uint64_t looked_at = 0;  // or inherited from what was looked at
  };
  // Looks now; what was found.
  const Known& Look(int32_t pid);

  Kernel& kernel_;
  const OwnershipOf ownership_of_;
  absl::flat_hash_map<int32_t, Known> processes_;
};

}  // namespace lbrd::pmu
