// Who may have a hardware breakpoint: the kernel's constraint rule.
//
// Each CPU has so many slots. A CPU's breakpoints are always in use there; a task's, when it runs
// there; tasks run one at a time. So on every CPU that a request concerns
//     breakpoints of the CPU + the most that any one task can bring there <= slots.
// Source: the rule that kernel/events/hw_breakpoint.c states in its head comment.
//
// Memory: 8 bytes a CPU and a few words for each task that has breakpoints. One answer: O(CPUs).
// Thread rules: one owner.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace lbrd::sim {

class BreakpointSlots {
 public:
  BreakpointSlots(int32_t cpus, uint32_t slots)
      : slots_(slots), of_cpu_(static_cast<size_t>(cpus)), with_cpu_(static_cast<size_t>(cpus)) {}

  // `task`: whose, by a number; 0: the CPU's own. `cpu`: -1: any. False: no room (ENOSPC).
  bool Reserve(uint64_t task, int32_t cpu);
  void Release(uint64_t task, int32_t cpu);

  // All counters are zero.
  bool empty() const;

 private:
  struct TaskUse {
    uint32_t any = 0;                           // on whatever CPU
    absl::flat_hash_map<int32_t, uint32_t> on;  // besides, on one
  };
  // How many tasks can bring how many breakpoints: number -> tasks.
  using Histogram = std::map<uint32_t, uint32_t>;

  uint32_t MostOfAnyTask(size_t cpu) const;
  void Count(const TaskUse& use, bool add);

  const uint32_t slots_;
  std::vector<uint32_t> of_cpu_;
  absl::flat_hash_map<uint64_t, TaskUse> tasks_;
  Histogram any_;                    // by TaskUse::any
  std::vector<Histogram> with_cpu_;  // any and on[cpu] together, of tasks that have the latter
};

}  // namespace lbrd::sim
