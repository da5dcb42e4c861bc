#include "client/enum_names.h"

#include "absl/strings/str_cat.h"

namespace lbrd::client {

absl::string_view FrameSourceName(v1::FrameSource source) {
  switch (source) {
    case v1::FRAME_SOURCE_KERNEL:
      return "kernel";
    case v1::FRAME_SOURCE_SAMPLED_IP:
      return "sampled_ip";
    case v1::FRAME_SOURCE_LBR:
      return "lbr";
    case v1::FRAME_SOURCE_KERNEL_DEFERRED:
      return "kernel_deferred";
    case v1::FRAME_SOURCE_DWARF:
      return "dwarf";
    case v1::FRAME_SOURCE_FRAME_POINTER:
      return "frame_pointer";
    case v1::FRAME_SOURCE_GUESS:
      return "guess";
    case v1::FRAME_SOURCE_STITCHED:
      return "stitched";
    default:
      return "unknown";
  }
}

absl::string_view StackStateName(v1::StackState state) {
  switch (state) {
    case v1::STACK_STATE_COMPLETE:
      return "complete";
    case v1::STACK_STATE_TRUNCATED:
      return "truncated";
    case v1::STACK_STATE_STITCHED:
      return "stitched";
    default:
      return "unknown";
  }
}

absl::string_view StackModeName(v1::StackMode mode) {
  switch (mode) {
    case v1::STACK_MODE_LBR:
      return "lbr";
    case v1::STACK_MODE_KERNEL_DEFERRED:
      return "kernel-deferred";
    case v1::STACK_MODE_DWARF:
      return "dwarf";
    case v1::STACK_MODE_FRAME_POINTER:
      return "frame-pointer";
    default:
      return "unknown";
  }
}

absl::string_view BranchFilterName(v1::BranchFilter filter) {
  switch (filter) {
    case v1::BRANCH_FILTER_CALL_STACK:
      return "call-stack";
    case v1::BRANCH_FILTER_ANY:
      return "any";
    case v1::BRANCH_FILTER_ANY_CALL:
      return "any-call";
    case v1::BRANCH_FILTER_ANY_RETURN:
      return "any-ret";
    case v1::BRANCH_FILTER_IND_CALL:
      return "ind-call";
    case v1::BRANCH_FILTER_IND_JUMP:
      return "ind-jmp";
    case v1::BRANCH_FILTER_COND:
      return "cond";
    case v1::BRANCH_FILTER_CALL:
      return "call";
    default:
      return "unknown";
  }
}

bool IsWhole(const v1::Verdict& verdict) {
  return verdict.state() == v1::STACK_STATE_COMPLETE ||
         (verdict.state() == v1::STACK_STATE_STITCHED &&
          verdict.confidence() == v1::CONFIDENCE_HIGH);
}

std::string VerdictText(const v1::Verdict& verdict) {
  const absl::string_view state = StackStateName(verdict.state());
  if (verdict.reason().empty()) return std::string(state);
  return absl::StrCat(state, ": ", verdict.reason());
}

}  // namespace lbrd::client
