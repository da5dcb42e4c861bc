#include "pmu/filter_account.h"

namespace lbrd::pmu {
namespace {

constexpr int32_t kNone = -1;  // no filter's number

template <typename Counts>
bool AnyOther(const Counts& counts, int32_t filter) {
  for (int32_t i = 0; i < FilterAccount::kMaxFilters; ++i) {
    if (i != filter && counts[static_cast<size_t>(i)] != 0) return true;
  }
  return false;
}

}  // namespace

FilterAccount::FilterAccount(int32_t cpus)
    : cpus_(cpus),
      pinned_(static_cast<size_t>(cpus)),
      tasks_on_(std::make_unique<SharedCounts[]>(static_cast<size_t>(cpus))) {}

std::optional<int32_t> FilterAccount::Find(uint64_t filter) const {
  for (int32_t i = 0; i < numbered_; ++i) {
    if (filters_[static_cast<size_t>(i)] == filter) return i;
  }
  return std::nullopt;
}

bool FilterAccount::Unused(int32_t number) const {
  const auto i = static_cast<size_t>(number);
  return pinned_anywhere_[i] == 0 && tasks_anywhere_[i] == 0;
}

std::optional<int32_t> FilterAccount::FindOrAdd(uint64_t filter) {
  if (const std::optional<int32_t> found = Find(filter)) return found;
  int32_t number = numbered_;
  if (numbered_ < kMaxFilters) {
    ++numbered_;
  } else {
    for (number = 0; number < kMaxFilters && !Unused(number);) ++number;
    if (number == kMaxFilters) return std::nullopt;
  }
  filters_[static_cast<size_t>(number)] = filter;
  return number;
}

std::optional<int32_t> FilterAccount::BlockedForTask(const TaskUses& task,
                                                     const Use& wanted) const {
  for (const Use& own : task.list()) {
    if (!Competes(own, wanted)) continue;
    if (wanted.cpu == kEveryCpu) return own.cpu == kEveryCpu ? 0 : own.cpu;
    if (own.covers(wanted.cpu)) return wanted.cpu;
  }
  if (wanted.cpu != kEveryCpu) {
    if (AnyOther(pinned_[wanted.cpu], wanted.filter)) return wanted.cpu;
    return std::nullopt;
  }
  if (!AnyOther(pinned_anywhere_, wanted.filter)) return std::nullopt;
  int32_t cpu = 0;
  while (!AnyOther(pinned_[cpu], wanted.filter)) ++cpu;
  return cpu;
}

std::optional<int32_t> FilterAccount::BlockedForCpu(const Use& wanted) const {
  const bool every = wanted.cpu == kEveryCpu;
  const bool by_unbound = AnyOther(tasks_everywhere_, wanted.filter);
  for (int32_t cpu = every ? 0 : wanted.cpu; cpu < (every ? cpus_ : wanted.cpu + 1); ++cpu) {
    if (by_unbound || AnyOther(pinned_[cpu], wanted.filter) ||
        AnyOther(tasks_on_[cpu], wanted.filter)) {
      return cpu;
    }
  }
  return std::nullopt;
}

void FilterAccount::CountTask(const TaskUses&, const Use& use, bool in) {
  const int32_t change = in ? 1 : -1;
  const auto filter = static_cast<size_t>(use.filter);
  SharedCounts& counts = use.cpu == kEveryCpu ? tasks_everywhere_ : tasks_on_[use.cpu];
  counts[filter].fetch_add(change, std::memory_order_relaxed);
  tasks_anywhere_[filter].fetch_add(change, std::memory_order_relaxed);
}

void FilterAccount::CountCpu(const Use& use, bool in) {
  const int32_t change = in ? 1 : -1;
  const auto filter = static_cast<size_t>(use.filter);
  const bool every = use.cpu == kEveryCpu;
  for (int32_t cpu = every ? 0 : use.cpu; cpu < (every ? cpus_ : use.cpu + 1); ++cpu) {
    pinned_[cpu][filter] += change;
    pinned_anywhere_[filter] += change;
  }
}

bool FilterAccount::Competes(const Use& held, const Use& wanted) const {
  return held.resource == wanted.resource && held.filter != wanted.filter;
}

bool FilterAccount::TaskBlocks(const TaskUses& task, const Use& wanted, int32_t cpu) const {
  for (const Use& own : task.list()) {
    if (own.covers(cpu) && Competes(own, wanted)) return true;
  }
  return false;
}

bool FilterAccount::idle() const {
  for (int32_t cpu = 0; cpu < cpus_; ++cpu) {
    if (AnyOther(pinned_[cpu], kNone) || AnyOther(tasks_on_[cpu], kNone)) return false;
  }
  return !AnyOther(pinned_anywhere_, kNone) && !AnyOther(tasks_everywhere_, kNone) &&
         !AnyOther(tasks_anywhere_, kNone);
}

}  // namespace lbrd::pmu
