#include "tests/sim/breakpoint_slots.h"

#include <algorithm>

namespace lbrd::sim {
namespace {

void Change(std::map<uint32_t, uint32_t>* histogram, uint32_t number, bool add) {
  if (number == 0) return;
  if (add) {
    ++(*histogram)[number];
  } else if (--(*histogram)[number] == 0) {
    histogram->erase(number);
  }
}

}  // namespace

uint32_t BreakpointSlots::MostOfAnyTask(size_t cpu) const {
  const uint32_t any = any_.empty() ? 0 : any_.rbegin()->first;
  const uint32_t here = with_cpu_[cpu].empty() ? 0 : with_cpu_[cpu].rbegin()->first;
  return std::max(any, here);
}

void BreakpointSlots::Count(const TaskUse& use, bool add) {
  Change(&any_, use.any, add);
  for (const auto& [cpu, number] : use.on) {
    Change(&with_cpu_[static_cast<size_t>(cpu)], use.any + number, add);
  }
}

bool BreakpointSlots::Reserve(uint64_t task, int32_t cpu) {
  const size_t first = cpu < 0 ? 0 : static_cast<size_t>(cpu);
  const size_t last = cpu < 0 ? of_cpu_.size() - 1 : first;
  const TaskUse* use = nullptr;
  if (const auto found = tasks_.find(task); task != 0 && found != tasks_.end()) {
    use = &found->second;
  }
  for (size_t i = first; i <= last; ++i) {
    uint32_t taken = of_cpu_[i];
    if (task == 0) {
      taken += MostOfAnyTask(i);
    } else if (use != nullptr) {
      const auto here = use->on.find(static_cast<int32_t>(i));
      taken += use->any + (here == use->on.end() ? 0 : here->second);
    }
    if (taken + 1 > slots_) return false;
  }
  if (task == 0) {
    for (size_t i = first; i <= last; ++i) ++of_cpu_[i];
    return true;
  }
  TaskUse& mine = tasks_[task];
  Count(mine, /*add=*/false);
  ++(cpu < 0 ? mine.any : mine.on[cpu]);
  Count(mine, /*add=*/true);
  return true;
}

void BreakpointSlots::Release(uint64_t task, int32_t cpu) {
  if (task == 0) {
    --of_cpu_[static_cast<size_t>(cpu)];
    return;
  }
  const auto found = tasks_.find(task);
  TaskUse& mine = found->second;
  Count(mine, /*add=*/false);
  if (cpu < 0) {
    --mine.any;
  } else if (--mine.on[cpu] == 0) {
    mine.on.erase(cpu);
  }
  if (mine.any == 0 && mine.on.empty()) {
    tasks_.erase(found);
  } else {
    Count(mine, /*add=*/true);
  }
}

bool BreakpointSlots::empty() const {
  return tasks_.empty() && any_.empty() &&
         std::all_of(of_cpu_.begin(), of_cpu_.end(), [](uint32_t n) { return n == 0; }) &&
         std::all_of(with_cpu_.begin(), with_cpu_.end(),
                     [](const Histogram& h) { return h.empty(); });
}

}  // namespace lbrd::sim
