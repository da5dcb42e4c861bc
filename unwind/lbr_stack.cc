#include "unwind/lbr_stack.h"

#include <bit>

#include "unwind/lbr_window.h"

namespace lbrd::unwind {
namespace {

// A deeper chain of callers is none.
constexpr size_t kMaxInferred = 1024;

}  // namespace

Verdict LbrStack::Judge(const Sample& sample) const {
  const size_t entries = sample.window.branches.size();
  if (entries == 0) return {StackState::kUnknown, StackReason::kLbrEmpty};
  if (window_.reaches_start) {
    return window_.doubtful ? Verdict{StackState::kUnknown, StackReason::kCallsDoNotChain}
                            : Verdict{StackState::kComplete, StackReason::kNone};
  }
  if (window_.cut) {
    const bool chained = !window_.findings.Has(WindowFinding::kNotChained) &&
                         !window_.findings.Has(WindowFinding::kLeafElsewhere);
    return {StackState::kTruncated,
            chained ? StackReason::kLbrForeign : StackReason::kCallsDoNotChain};
  }
  if (window_.doubtful) return {StackState::kUnknown, StackReason::kCallsDoNotChain};
  return JudgeLbrWindow(entries, sample.depth);
}

bool LbrStack::IsSureCaller(const AddressSpace& space, uint64_t function, const Call& call) {
  const uint32_t enough = validator_.IsMadeOnce(space, call) ? 1 : CallerTable::kEnough;
  return callers_.IsOnlyCaller(space.generation(), function, call.from, enough);
}

bool LbrStack::InferCallers(const AddressSpace& space, uint64_t function) {
  inferred_.clear();
  while (function != 0 && inferred_.size() < kMaxInferred) {
    const Call call{callers_.OnlyCaller(space.generation(), function), function};
    if (call.from == 0 || !IsSureCaller(space, function, call)) return false;
    inferred_.push_back(call);
    if (validator_.IsMadeAtStart(space, call)) {
      past_.calls.assign(inferred_.begin(), inferred_.end());
      past_.reaches_start = true;
      return true;
    }
    function = validator_.CallerOf(space, call);
  }
  return false;
}

size_t LbrStack::CountSure(const AddressSpace& space, size_t first, uint64_t function) {
  const std::vector<Call>& calls = past_.calls;
  size_t at = first;
  while (at < calls.size() && function != 0 && IsSureCaller(space, function, calls[at])) {
    function = validator_.CallerOf(space, calls[at]);
    ++at;
  }
  return at - first;
}

std::optional<size_t> LbrStack::FindActivation(const AddressSpace& space, uint64_t function) {
  const std::vector<Call>& calls = past_.calls;
  std::optional<size_t> found;
  for (size_t i = 0; i < calls.size(); ++i) {
    const uint64_t entered =
        i == 0 ? validator_.CalleeOf(space, calls[0]) : validator_.CallerOf(space, calls[i - 1]);
    if (entered != function) continue;
    if (found.has_value()) return std::nullopt;
    found = i;
  }
  return found;
}

void LbrStack::Stitch(const AddressSpace& space, const Sample& sample, TaskHistory* history,
                      ResolvedStack* out) {
  history->Load(&past_);
  const bool full = sample.depth != 0 && sample.window.branches.size() == sample.depth;
  std::optional<IndexShift> index;
  if (has_index_ && full && past_.top_of_stack.has_value() && sample.window.hw_index.has_value() &&
      *sample.window.hw_index < sample.depth) {
    const auto now = static_cast<uint32_t>(*sample.window.hw_index);
    index = {(now + sample.depth - *past_.top_of_stack % sample.depth) % sample.depth,
             sample.depth};
  }
  const uint64_t function = !window_.calls.empty() ? window_.calls.back().caller
                            : sample.user_ip.has_value()
                                ? validator_.FunctionOf(space, *sample.user_ip)
                                : 0;
  const bool doubtful = window_.doubtful || window_.cut;
  Joint joint = FindJoint(past_.calls, now_.calls, index);
  if (joint.kind == Joint::Kind::kNone && function != 0 && !doubtful) {
    // The hardware lost the base when it overflowed: after returns its window begins anew, and may
    // hold nothing that was there before. The function that it begins in is still active, and if
    // nothing but one chain of callers leads there, that is the one.
    const std::optional<size_t> at = FindActivation(space, function);
    if (at.has_value() && *at + CountSure(space, *at, function) == past_.calls.size()) {
      joint = {Joint::Kind::kOnly, *at, 0};
    } else if (InferCallers(space, function)) {
      joint = {Joint::Kind::kOnly, 0, 0};
    }
  }
  if (joint.kind == Joint::Kind::kAmbiguous) {
    out->verdict = {StackState::kTruncated, StackReason::kAmbiguous};
    remember_ = false;  // what was known before may still fit a later window
    return;
  }
  if (joint.kind == Joint::Kind::kNone) {
    // A base once lost does not come back by itself: it is kept for windows that begin above it.
    remember_ = !past_.reaches_start;
    return;
  }
  const size_t below = past_.calls.size() - joint.below;
  const size_t sure =
      joint.kind == Joint::Kind::kOnly && !doubtful ? CountSure(space, joint.below, function) : 0;
  // Without the thread's start there is nothing to be gained by calls that may be wrong.
  const size_t taken = past_.reaches_start ? below : sure;
  for (size_t i = joint.below; i < joint.below + taken; ++i) {
    out->AddCall(past_.calls[i].from, FrameSource::kStitched,
                 validator_.CallSize(space, past_.calls[i]));
    now_.calls.push_back(past_.calls[i]);
  }
  now_.reaches_start = past_.reaches_start;
  if (!past_.reaches_start) return;
  out->verdict = {StackState::kStitched, joint.kind == Joint::Kind::kByIndex
                                             ? StackReason::kAmbiguous
                                         : sure < below ? StackReason::kCallersVary
                                                        : StackReason::kNone};
}

void LbrStack::Resolve(const AddressSpace& space, const Sample& sample, TaskHistory* history,
                       ResolvedStack* out) {
  remember_ = false;
  const pmu::BranchStack& branches = sample.window;
  if (sample.depth != 0 && branches.hw_index.has_value() && *branches.hw_index < sample.depth) {
    has_index_ = has_index_ || *branches.hw_index != 0;
  }
  validator_.Check(space, branches.branches, sample.user_ip, sample.in_kernel, &window_);
  for (uint32_t left = window_.findings.bits(); left != 0; left &= left - 1) {
    ++counts_.windows[std::countr_zero(left)];
  }
  out->verdict = Judge(sample);
  now_.calls.clear();
  uint64_t callee = 0;  // the function that the call before was made in
  for (const CheckedCall& checked : window_.calls) {
    const Call& call = checked.call;
    out->AddCall(call.from, FrameSource::kLbr, checked.size);
    now_.calls.push_back(call);
    if (callee != 0) callers_.Saw(space.generation(), callee, call.from);
    callee = window_.doubtful ? 0 : checked.caller;
  }
  now_.reaches_start = window_.reaches_start;
  now_.time_ns = sample.time_ns;
  now_.top_of_stack.reset();
  // After a long jump, or on another stack, nothing can be joined.
  if (history == nullptr || window_.doubtful || (window_.cut && window_.calls.empty())) return;
  remember_ = true;
  if (!window_.reaches_start) Stitch(space, sample, history, out);
  const bool anchored = window_.reaches_start || branches.branches.size() == sample.depth;
  if (has_index_ && anchored && branches.hw_index.has_value() &&
      *branches.hw_index < sample.depth) {
    now_.top_of_stack = static_cast<uint32_t>(*branches.hw_index);
  }
}

void LbrStack::Refute(TaskHistory* history) {
  ++counts_.windows[static_cast<size_t>(WindowFinding::kDisagrees)];
  remember_ = false;
  if (history != nullptr) history->Store({.time_ns = now_.time_ns});
}

}  // namespace lbrd::unwind
