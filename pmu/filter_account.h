// The counters of a resource that has one setting at a time on each CPU, shared by all who want the
// same one: the LBR and its branch filter.
//
// Filters are numbered as they first come; a number is given again once nobody uses its filter.
//
// Memory: 8 bytes x kMaxFilters a CPU, and 320.
// Thread rules: see resource_account.h.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "pmu/resource_account.h"

namespace lbrd::pmu {

class FilterAccount : public ResourceAccount {
 public:
  // Different filters in use at once. Few are of any use: this is far beyond.
  static constexpr int kMaxFilters = 16;

  explicit FilterAccount(int32_t cpus);

  // The number of a filter (perf_event_attr's branch_sample_type); nullopt: it has none yet.
  // Reading.
  std::optional<int32_t> Find(uint64_t filter) const;
  // Gives it a number. nullopt: kMaxFilters are in use. Writing.
  std::optional<int32_t> FindOrAdd(uint64_t filter);
  // Reading.
  uint64_t filter(int32_t number) const { return filters_[static_cast<size_t>(number)]; }

  std::optional<int32_t> BlockedForTask(const TaskUses& task, const Use& wanted) const override;
  std::optional<int32_t> BlockedForCpu(const Use& wanted) const override;
  void CountTask(const TaskUses& others, const Use& use, bool in) override;
  void CountCpu(const Use& use, bool in) override;
  bool Competes(const Use& held, const Use& wanted) const override;
  bool TaskBlocks(const TaskUses& task, const Use& wanted, int32_t cpu) const override;
  bool idle() const override;

 private:
  // Uses by the number of their filter.
  using Counts = std::array<int32_t, kMaxFilters>;
  using SharedCounts = std::array<std::atomic<int32_t>, kMaxFilters>;

  bool Unused(int32_t number) const;

  const int32_t cpus_;
  int32_t numbered_ = 0;
  std::array<uint64_t, kMaxFilters> filters_{};
  std::vector<Counts> pinned_;                // by CPU: uses of the CPU
  Counts pinned_anywhere_{};                  // the sums of these over all CPUs
  std::unique_ptr<SharedCounts[]> tasks_on_;  // by CPU: tasks' uses bound to it
  SharedCounts tasks_everywhere_{};           // tasks' unbound uses
  SharedCounts tasks_anywhere_{};             // all of tasks' uses
};

}  // namespace lbrd::pmu
