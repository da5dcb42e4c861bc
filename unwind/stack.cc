#include "unwind/stack.h"

namespace lbrd::unwind {

absl::string_view FrameSourceName(FrameSource source) {
  switch (source) {
    case FrameSource::kKernel:
      return "kernel";
    case FrameSource::kSampledIp:
      return "sampled_ip";
    case FrameSource::kLbr:
      return "lbr";
    case FrameSource::kKernelDeferred:
      return "kernel_deferred";
    case FrameSource::kDwarf:
      return "dwarf";
    case FrameSource::kFramePointer:
      return "frame_pointer";
    case FrameSource::kGuess:
      return "guess";
    case FrameSource::kStitched:
      return "stitched";
  }
  return "";
}

absl::string_view StackStateName(StackState state) {
  switch (state) {
    case StackState::kComplete:
      return "complete";
    case StackState::kTruncated:
      return "truncated";
    case StackState::kUnknown:
      return "unknown";
    case StackState::kStitched:
      return "stitched";
  }
  return "";
}

absl::string_view StackReasonName(StackReason reason) {
  switch (reason) {
    case StackReason::kNone:
      return "";
    case StackReason::kLbrEmpty:
      return "lbr_empty";
    case StackReason::kLbrFull:
      return "lbr_full";
    case StackReason::kLbrBaseUnknown:
      return "lbr_base_unknown";
    case StackReason::kLbrForeign:
      return "lbr_foreign";
    case StackReason::kCallsDoNotChain:
      return "calls_do_not_chain";
    case StackReason::kAmbiguous:
      return "ambiguous";
    case StackReason::kCallersVary:
      return "callers_vary";
    case StackReason::kStackCopyEnded:
      return "stack_copy_ended";
    case StackReason::kNoUnwindInfo:
      return "no_unwind_info";
    case StackReason::kNoBinary:
      return "no_binary";
    case StackReason::kBadAddress:
      return "bad_address";
    case StackReason::kUnwindFailed:
      return "unwind_failed";
    case StackReason::kTooDeep:
      return "too_deep";
    case StackReason::kFramePointersOnly:
      return "frame_pointers_only";
    case StackReason::kDeferredMissing:
      return "deferred_missing";
    case StackReason::kNoUserStack:
      return "no_user_stack";
    case StackReason::kUnsupportedArch:
      return "unsupported_arch";
  }
  return "";
}

}  // namespace lbrd::unwind
