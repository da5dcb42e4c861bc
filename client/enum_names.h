// The words for what the contract numbers: the same in every view, file and message.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "lbrd/v1/sample.pb.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::client {

// "kernel", "sampled_ip", "lbr", "kernel_deferred", "dwarf", "frame_pointer"; "unknown" for a value
// that this client does not know.
absl::string_view FrameSourceName(v1::FrameSource source);

// "complete", "truncated", "unknown".
absl::string_view StackStateName(v1::StackState state);

// "lbr", "kernel-deferred", "dwarf", "frame-pointer"; "unknown" for a value not known.
absl::string_view StackModeName(v1::StackMode mode);

// perf's names (`perf record -j`), with dashes: "call-stack", "any", "any-call", "any-ret",
// "ind-call", "ind-jmp", "cond", "call"; "unknown" for a value not known.
absl::string_view BranchFilterName(v1::BranchFilter filter);

// Whether a stack reaches its thread's start, with no doubt about a frame of it.
bool IsWhole(const v1::Verdict& verdict);
// "complete", "truncated: stack_copy_ended", "unknown: frame_pointers_only", or the state alone
// where no reason is given.
std::string VerdictText(const v1::Verdict& verdict);

}  // namespace lbrd::client
