// What unwinding has done in this process since it started, of all workers there are and were.
//
// A worker counts for itself, frame by frame, in plain numbers; after each batch it adds what has
// grown here. So nothing here is touched for a frame or a sample, and what is read lags by a batch.
//
// Thread rules: UnwindReport: one owner. UnwindTotals: thread-safe; its figures are not of one
// moment.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "unwind/stack.h"

namespace lbrd::unwind {
class StackResolver;
}  // namespace lbrd::unwind

namespace lbrd::daemon {

class RecentStacks;

struct UnwindFigures {
  static constexpr size_t kReasons = static_cast<size_t>(unwind::StackReason::kUnsupportedArch) + 1;
  enum Figure : size_t {
    kCopies,           // copies of stacks that were unwound
    kIdenticalCopies,  // that were the thread's last one again, and were not
    kHandedOver,       // copies that libunwind unwound, for a rule that the tables do not have
    kLookUps,          // of rules: one a frame, and one for the end
    kCacheHits,        // in the cache of the address space's own addresses
    kSharedCacheHits,  // in the one of all processes; other look-ups read a table
    kOddRules,         // frames left by an expression or a signal's frame
    kGuesses,          // frames left without call frame information
    kStacksInterned,   // samples' stacks that were given an id
    kRecentStacks,     // of them, by one look at those of a moment ago
    kFigures,
  };
  std::array<uint64_t, kFigures> figures{};
  // Samples by what their stacks were said to be.
  std::array<std::array<uint64_t, kReasons>, unwind::kStackStates> verdicts{};

  void Count(const unwind::Verdict& verdict) {
    ++verdicts[static_cast<size_t>(verdict.state)][static_cast<size_t>(verdict.reason)];
  }
};

class UnwindTotals {
 public:
  static UnwindTotals& OfProcess();

  UnwindFigures Read() const;
  // `now` less `*before`; *before becomes `now`.
  void AddGrowth(const UnwindFigures& now, UnwindFigures* before);

 private:
  std::array<std::atomic<uint64_t>, UnwindFigures::kFigures> figures_{};
  std::array<std::array<std::atomic<uint64_t>, UnwindFigures::kReasons>, unwind::kStackStates>
      verdicts_{};
};

// One worker's, or whoever's who resolves.
class UnwindReport {
 public:
  void Count(const unwind::Verdict& verdict) { now_.Count(verdict); }
  // Adds to the process's totals what these have done since the last time. `recent`: nullptr: it
  // interns nothing.
  void Tell(const unwind::StackResolver& resolver, const RecentStacks* recent);

 private:
  UnwindFigures now_;
  UnwindFigures told_;
};

}  // namespace lbrd::daemon
