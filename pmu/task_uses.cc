#include "pmu/task_uses.h"

#include <algorithm>

namespace lbrd::pmu {

std::vector<std::pair<int32_t, int>> TaskUses::SomeBoundCpus(Resource resource) const {
  std::vector<std::pair<int32_t, int>> bound;
  for (const Use& use : list_) {
    if (use.resource == resource && use.cpu != kEveryCpu) bound.emplace_back(use.cpu, use.slots);
  }
  std::sort(bound.begin(), bound.end());
  size_t kept = 0;
  for (const auto& [cpu, slots] : bound) {
    if (kept > 0 && bound[kept - 1].first == cpu) {
      bound[kept - 1].second += slots;
    } else {
      bound[kept++] = {cpu, slots};
    }
  }
  bound.resize(kept);
  return bound;
}

void TaskUses::Add(Use use) {
  if (list_.empty()) list_.reserve(4);
  if (use.cpu != kEveryCpu) ++bound_;
  list_.push_back(std::move(use));
}

Use TaskUses::Remove(uint64_t id) {
  const auto found =
      std::find_if(list_.begin(), list_.end(), [id](const Use& use) { return use.id == id; });
  Use use = std::move(*found);
  if (found != list_.end() - 1) *found = std::move(list_.back());
  list_.pop_back();
  if (use.cpu != kEveryCpu) --bound_;
  return use;
}

}  // namespace lbrd::pmu
