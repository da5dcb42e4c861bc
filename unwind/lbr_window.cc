#include "unwind/lbr_window.h"

namespace lbrd::unwind {
namespace {

// Every depth that call-stack hardware has had (Haswell 16, Skylake and later 32). Where the depth
// was not recorded, a window of such a size may be a full one.
bool MayBeFull(size_t entries, uint32_t depth) {
  return depth != 0 ? entries >= depth : entries == 16 || entries >= 32;
}

}  // namespace

Verdict JudgeLbrWindow(size_t entries, uint32_t depth) {
  if (entries == 0) return {StackState::kUnknown, StackReason::kLbrEmpty};
  if (MayBeFull(entries, depth)) return {StackState::kTruncated, StackReason::kLbrFull};
  return {StackState::kUnknown, StackReason::kLbrBaseUnknown};
}

}  // namespace lbrd::unwind
