#include "daemon/branch_history.h"

#include <algorithm>
#include <atomic>

namespace lbrd::daemon {
namespace {

constexpr uint64_t kEndOfUserSpace = uint64_t{1} << 47;

std::atomic<size_t> all_deep_bytes{0};

size_t BytesOf(size_t calls) {
  return BranchHistory::kDeepBlockBytes + calls * sizeof(unwind::Call);
}

// False: there is no room.
bool TakeDeepBytes(size_t bytes) {
  if (all_deep_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes <=
      BranchHistory::kMaxDeepBytes) {
    return true;
  }
  all_deep_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  return false;
}

}  // namespace

BranchHistory::Deep::~Deep() {
  all_deep_bytes.fetch_sub(BytesOf(calls.size()), std::memory_order_relaxed);
}

size_t BranchHistory::deep_bytes() { return all_deep_bytes.load(std::memory_order_relaxed); }

void BranchHistory::Load(unwind::CallHistory* history) const {
  const size_t here = std::min<size_t>(count_, kInlineCalls);
  history->calls.clear();
  for (size_t i = 0; i < here; ++i) history->calls.push_back(calls_[i].Unpacked());
  if (deep_ != nullptr) {
    history->calls.insert(history->calls.end(), deep_->calls.begin(), deep_->calls.end());
  }
  history->reaches_start = reaches_start_;
  history->top_of_stack.reset();
  if (top_of_stack_ >= 0) history->top_of_stack = static_cast<uint32_t>(top_of_stack_);
  history->time_ns = time_ns_;
}

void BranchHistory::Clear() {
  deep_.reset();
  count_ = 0;
  top_of_stack_ = -1;
  truncated_ = reaches_start_ = false;
}

void BranchHistory::Store(const unwind::CallHistory& history) {
  Clear();
  time_ns_ = history.time_ns;
  const std::span<const unwind::Call> calls = history.calls;
  size_t kept = std::min(calls.size(), kMaxCalls);
  if (kept > kInlineCalls && !TakeDeepBytes(BytesOf(kept - kInlineCalls))) kept = kInlineCalls;
  uint64_t bits = 0;
  if (kept > kInlineCalls) {
    deep_ = std::make_unique<const Deep>(calls.subspan(kInlineCalls, kept - kInlineCalls));
    for (const unwind::Call& call : deep_->calls) bits |= call.from | call.to;
  }
  const size_t here = std::min(kept, kInlineCalls);
  for (size_t i = 0; i < here; ++i) {
    calls_[i] = PackedCall(calls[i]);
    bits |= calls[i].from | calls[i].to;
  }
  if (bits >= kEndOfUserSpace) {
    deep_.reset();
    return;
  }
  count_ = static_cast<uint16_t>(kept);
  truncated_ = kept < calls.size();
  reaches_start_ = history.reaches_start && !truncated_;
  if (history.top_of_stack.has_value()) top_of_stack_ = static_cast<int8_t>(*history.top_of_stack);
}

}  // namespace lbrd::daemon
