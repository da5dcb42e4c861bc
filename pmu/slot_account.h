// The counters of a resource with a number of equal slots on each CPU: breakpoints, counters.
//
// For each CPU: the slots used by the CPU itself, and how many tasks have n uses that can run
// there. A use of a CPU fits beside the busiest task; a use of a task fits beside the busiest of
// the CPUs that it may run on. That is the rule by which Linux gives out hardware breakpoints.
//
// A task is counted once among those of every CPU with its unbound uses, and again on each CPU that
// it has bound uses on, there with all that can run there. Its largest count is the right one on
// every CPU, so a change costs the number of CPUs with bound uses, not the number of CPUs (Linux
// goes over all CPUs as soon as one use is bound).
//
// Memory: 132 bytes a CPU, and 256.
// Thread rules: see resource_account.h.
#pragma once

#include <memory>
#include <vector>

#include "pmu/resource_account.h"
#include "pmu/slot_histogram.h"

namespace lbrd::pmu {

class SlotAccount : public ResourceAccount {
 public:
  // `slots` on each of CPUs 0 to `cpus` - 1, at most SlotHistogram::kMaxSlots; 0: the number is not
  // known, and everything fits.
  SlotAccount(int slots, int32_t cpus);

  std::optional<int32_t> BlockedForTask(const TaskUses& task, const Use& wanted) const override;
  std::optional<int32_t> BlockedForCpu(const Use& wanted) const override;
  void CountTask(const TaskUses& others, const Use& use, bool in) override;
  void CountCpu(const Use& use, bool in) override;
  bool Competes(const Use& held, const Use& wanted) const override;
  bool TaskBlocks(const TaskUses& task, const Use& wanted, int32_t cpu) const override;
  bool idle() const override;

 private:
  bool TooMany(int slots) const { return slots_ != 0 && slots > slots_; }
  // Slots that tasks may take up on this CPU, at most.
  int LargestTask(int32_t cpu) const;

  const int slots_;
  const int32_t cpus_;
  std::vector<int32_t> pinned_;                // by CPU: slots of uses of the CPU
  SlotHistogram cpus_with_;                    // the same as a histogram
  int largest_pinned_ = 0;                     // its largest, for every task to read
  std::unique_ptr<SlotHistogram[]> tasks_on_;  // by CPU: tasks with uses bound to it
  SlotHistogram tasks_everywhere_;             // tasks with unbound uses, those alone
};

}  // namespace lbrd::pmu
