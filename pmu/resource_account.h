// The counters of one scarce resource: what decides whether a use still fits.
//
// A use is of a CPU (whatever runs there) or of a task. Two uses compete where both can be on the
// hardware at once: on one CPU, if at least one of them is of the CPU, or both are of one task.
//
// Thread rules, with the semaphore of admission.h: functions that say "writing" need it held for
// writing; "reading", for reading at least, and the lock of the task that is passed.
#pragma once

#include <cstdint>
#include <optional>

#include "pmu/task_uses.h"

namespace lbrd::pmu {

class ResourceAccount {
 public:
  ResourceAccount() = default;
  ResourceAccount(const ResourceAccount&) = delete;
  ResourceAccount& operator=(const ResourceAccount&) = delete;
  virtual ~ResourceAccount() = default;

  // A CPU on which `wanted` does not fit beside what `task` has and what CPUs are used for;
  // nullopt: it fits. Reading.
  virtual std::optional<int32_t> BlockedForTask(const TaskUses& task, const Use& wanted) const = 0;
  // The same for a use of CPUs. Writing: it looks at all tasks' counters.
  virtual std::optional<int32_t> BlockedForCpu(const Use& wanted) const = 0;

  // Counts a use of a task in or out. `others`: the task's uses without this one. Reading.
  virtual void CountTask(const TaskUses& others, const Use& use, bool in) = 0;
  // Counts a use of CPUs in or out. Writing.
  virtual void CountCpu(const Use& use, bool in) = 0;

  // Whether `held`, both being on `cpu`, is a reason to refuse `wanted`. Reading.
  virtual bool Competes(const Use& held, const Use& wanted) const = 0;
  // Whether `task`, for what it has there, keeps a use of `cpu` from being granted. Writing.
  virtual bool TaskBlocks(const TaskUses& task, const Use& wanted, int32_t cpu) const = 0;

  // Whether all counters are zero. Writing.
  virtual bool idle() const = 0;
};

}  // namespace lbrd::pmu
