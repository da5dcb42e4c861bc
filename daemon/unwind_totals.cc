#include "daemon/unwind_totals.h"

#include "daemon/recent_stacks.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

UnwindTotals& UnwindTotals::OfProcess() {
  static UnwindTotals totals;
  return totals;
}

UnwindFigures UnwindTotals::Read() const {
  UnwindFigures out;
  for (size_t i = 0; i < figures_.size(); ++i) {
    out.figures[i] = figures_[i].load(std::memory_order_relaxed);
  }
  for (size_t state = 0; state < verdicts_.size(); ++state) {
    for (size_t reason = 0; reason < verdicts_[state].size(); ++reason) {
      out.verdicts[state][reason] = verdicts_[state][reason].load(std::memory_order_relaxed);
    }
  }
  return out;
}

void UnwindTotals::AddGrowth(const UnwindFigures& now, UnwindFigures* before) {
  const auto add = [](uint64_t value, uint64_t* told, std::atomic<uint64_t>* total) {
    if (value == *told) return;
    total->fetch_add(value - *told, std::memory_order_relaxed);
    *told = value;
  };
  for (size_t i = 0; i < figures_.size(); ++i) {
    add(now.figures[i], &before->figures[i], &figures_[i]);
  }
  for (size_t state = 0; state < verdicts_.size(); ++state) {
    for (size_t reason = 0; reason < verdicts_[state].size(); ++reason) {
      add(now.verdicts[state][reason], &before->verdicts[state][reason], &verdicts_[state][reason]);
    }
  }
}

void UnwindReport::Tell(const unwind::StackResolver& resolver, const RecentStacks* recent) {
  const unwind::FastUnwinder::Counts& counts = resolver.unwind_counts();
  auto& figures = now_.figures;
  figures[UnwindFigures::kCopies] = counts.samples;
  figures[UnwindFigures::kIdenticalCopies] = resolver.identical_copies();
  figures[UnwindFigures::kHandedOver] = counts.handed_over;
  figures[UnwindFigures::kLookUps] = counts.steps;
  figures[UnwindFigures::kCacheHits] = counts.steps - counts.cache_misses;
  figures[UnwindFigures::kSharedCacheHits] = counts.cache_misses - counts.table_reads;
  figures[UnwindFigures::kOddRules] = counts.full_rules;
  figures[UnwindFigures::kGuesses] = counts.guesses;
  if (recent != nullptr) {
    figures[UnwindFigures::kStacksInterned] = recent->asked();
    figures[UnwindFigures::kRecentStacks] = recent->found();
  }
  UnwindTotals::OfProcess().AddGrowth(now_, &told_);
}

}  // namespace lbrd::daemon
