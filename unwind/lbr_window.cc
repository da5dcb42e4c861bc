#include "unwind/lbr_window.h"

namespace lbrd::unwind {
namespace {

// Every depth that call-stack hardware has had (Haswell 16, Skylake and later 32). Where the depth
// was not recorded, a window of such a size may be a full one.
bool MayBeFull(size_t entries, uint32_t depth) {
  return depth != 0 ? entries >= depth : entries == 16 || entries >= 32;
}

}  // namespace

Verdict JudgeLbrWindow(const pmu::BranchStack& window, uint32_t depth,
                       absl::FunctionRef<bool(uint64_t)> is_thread_start) {
  const size_t entries = window.branches.size();
  if (entries == 0) return {StackState::kUnknown, StackReason::kLbrEmpty};
  for (size_t i = 0; i < entries; ++i) {
    if (!is_thread_start(window.branches[i].from)) continue;
    if (i + 1 == entries) return {StackState::kComplete, StackReason::kNone};
    // Left over from before an exec, or from another task: not callers of this thread's start.
    return {StackState::kUnknown, StackReason::kFramesBelowStart};
  }
  if (MayBeFull(entries, depth)) return {StackState::kTruncated, StackReason::kLbrFull};
  return {StackState::kUnknown, StackReason::kLbrBaseUnknown};
}

}  // namespace lbrd::unwind
