#include "pmu/slot_account.h"

#include <algorithm>

namespace lbrd::pmu {

SlotAccount::SlotAccount(int slots, int32_t cpus)
    : slots_(slots),
      cpus_(cpus),
      pinned_(static_cast<size_t>(cpus)),
      tasks_on_(std::make_unique<SlotHistogram[]>(static_cast<size_t>(cpus))) {}

int SlotAccount::LargestTask(int32_t cpu) const {
  return std::max(tasks_on_[cpu].Largest(), tasks_everywhere_.Largest());
}

std::optional<int32_t> SlotAccount::BlockedForTask(const TaskUses& task, const Use& wanted) const {
  const int everywhere = task.Everywhere(wanted.resource);
  if (wanted.cpu != kEveryCpu) {
    const int own = everywhere + task.Bound(wanted.resource, wanted.cpu);
    if (TooMany(pinned_[wanted.cpu] + own + wanted.slots)) return wanted.cpu;
    return std::nullopt;
  }
  for (const auto& [cpu, bound] : task.BoundCpus(wanted.resource)) {
    if (TooMany(pinned_[cpu] + everywhere + bound + wanted.slots)) return cpu;
  }
  // On the CPUs just seen this is less than it was; on all others it is what counts.
  if (TooMany(largest_pinned_ + everywhere + wanted.slots)) {
    return static_cast<int32_t>(std::max_element(pinned_.begin(), pinned_.end()) - pinned_.begin());
  }
  return std::nullopt;
}

std::optional<int32_t> SlotAccount::BlockedForCpu(const Use& wanted) const {
  const bool every = wanted.cpu == kEveryCpu;
  for (int32_t cpu = every ? 0 : wanted.cpu; cpu < (every ? cpus_ : wanted.cpu + 1); ++cpu) {
    if (TooMany(pinned_[cpu] + LargestTask(cpu) + wanted.slots)) return cpu;
  }
  return std::nullopt;
}

void SlotAccount::CountTask(const TaskUses& others, const Use& use, bool in) {
  const auto move = [in](SlotHistogram& histogram, int without, int with) {
    in ? histogram.Move(without, with) : histogram.Move(with, without);
  };
  const int everywhere = others.Everywhere(use.resource);
  if (use.cpu != kEveryCpu) {
    const int bound = others.Bound(use.resource, use.cpu);
    move(tasks_on_[use.cpu], bound == 0 ? 0 : everywhere + bound, everywhere + bound + use.slots);
    return;
  }
  move(tasks_everywhere_, everywhere, everywhere + use.slots);
  for (const auto& [cpu, bound] : others.BoundCpus(use.resource)) {
    move(tasks_on_[cpu], everywhere + bound, everywhere + bound + use.slots);
  }
}

void SlotAccount::CountCpu(const Use& use, bool in) {
  const bool every = use.cpu == kEveryCpu;
  for (int32_t cpu = every ? 0 : use.cpu; cpu < (every ? cpus_ : use.cpu + 1); ++cpu) {
    const int before = pinned_[cpu];
    pinned_[cpu] += in ? use.slots : -use.slots;
    cpus_with_.Move(before, pinned_[cpu]);
  }
  largest_pinned_ = cpus_with_.Largest();
}

bool SlotAccount::Competes(const Use& held, const Use& wanted) const {
  return held.resource == wanted.resource;
}

bool SlotAccount::TaskBlocks(const TaskUses& task, const Use& wanted, int32_t cpu) const {
  const int own = task.Everywhere(wanted.resource) + task.Bound(wanted.resource, cpu);
  return own > 0 && TooMany(pinned_[cpu] + own + wanted.slots);
}

bool SlotAccount::idle() const {
  for (int32_t cpu = 0; cpu < cpus_; ++cpu) {
    if (pinned_[cpu] != 0 || !tasks_on_[cpu].empty()) return false;
  }
  return cpus_with_.empty() && largest_pinned_ == 0 && tasks_everywhere_.empty();
}

}  // namespace lbrd::pmu
