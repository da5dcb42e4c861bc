// What unwinding produces: frames with their source, and a verdict on the whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lbrd::unwind {

// Where a frame's address comes from.
enum class FrameSource : uint8_t {
  kKernel,          // the kernel's own call chain, or the sampled IP in kernel mode
  kSampledIp,       // the user instruction that was interrupted: exact
  kLbr,             // a call instruction recorded by the hardware
  kKernelDeferred,  // frame pointers, walked by the kernel on the way back to user mode
  kDwarf,           // call frame information over the copied stack
  kFramePointer,    // frame pointers, walked by the kernel at the sample
  kGuess,     // over the copied stack, above code without call frame information: may be wrong
  kStitched,  // a call that an earlier window of the hardware held, and this one no longer does
};
absl::string_view FrameSourceName(FrameSource source);

// Whether a source's addresses are return addresses, which belong to the instruction before them.
// LBR holds the call instruction's own address; the sampled IP is exact.
constexpr bool IsReturnAddress(FrameSource source) {
  return source == FrameSource::kKernelDeferred || source == FrameSource::kDwarf ||
         source == FrameSource::kFramePointer || source == FrameSource::kGuess;
}

enum class StackState : uint8_t {
  kComplete,   // reaches the thread's start
  kTruncated,  // known to lack its older frames; the reason says why
  kUnknown,    // may or may not reach the thread's start; the reason says why
  // Reaches the thread's start by calls that are inferred from earlier windows. With no reason it
  // is sure; else the reason says what the doubt is.
  kStitched,
};
inline constexpr size_t kStackStates = 4;
absl::string_view StackStateName(StackState state);

// Why a stack is not known to be complete, or not sure.
enum class StackReason : uint8_t {
  kNone,
  kLbrEmpty,           // the branch stack held no entry
  kLbrFull,            // every LBR slot is taken: older frames fell out
  kLbrBaseUnknown,     // the window has room left, but its oldest frame is not a thread's start
  kLbrForeign,         // what the branch stack holds is not this process's, or no calls
  kCallsDoNotChain,    // a call does not follow from the one before: a long jump, another stack
  kAmbiguous,          // recursion: earlier windows can be continued in several ways
  kCallersVary,        // stitched through a function that may have been called from elsewhere
  kStackCopyEnded,     // the copied stack ended before the thread's start
  kNoUnwindInfo,       // a frame's code has no call frame information
  kNoBinary,           // the file behind a frame could not be read
  kBadAddress,         // a frame's address is in no executable mapping
  kUnwindFailed,       // call frame information could not be applied
  kTooDeep,            // more frames than are kept
  kFramePointersOnly,  // the chain ended; frame pointers cannot tell where
  kDeferredMissing,    // the kernel's deferred answer did not come
  kNoUserStack,        // nothing about user mode was recorded
  kUnsupportedArch,    // recorded on an architecture this build does not unwind
};
absl::string_view StackReasonName(StackReason reason);

struct Verdict {
  StackState state = StackState::kUnknown;
  StackReason reason = StackReason::kNone;
  bool operator==(const Verdict&) const = default;
};

// Whether a stack is known to reach its thread's start, with no doubt about a frame of it.
constexpr bool IsWhole(const Verdict& verdict) {
  return verdict.state == StackState::kComplete ||
         (verdict.state == StackState::kStitched && verdict.reason == StackReason::kNone);
}

}  // namespace lbrd::unwind
