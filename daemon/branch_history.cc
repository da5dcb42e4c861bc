#include "daemon/branch_history.h"

#include <algorithm>
#include <atomic>
#include <cstring>

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

BranchHistory& BranchHistory::operator=(const BranchHistory& other) {
  if (this == &other) return *this;
  time_ns_ = other.time_ns_;
  deep_ = other.deep_;
  count_ = other.count_;
  top_of_stack_ = other.top_of_stack_;
  truncated_ = other.truncated_;
  reaches_start_ = other.reaches_start_;
  const size_t here = std::min<size_t>(count_, kInlineCalls);
  std::memcpy(bytes_.data(), other.bytes_.data(), here * 2 * kAddressBytes);
  return *this;
}

void BranchHistory::AppendTo(std::vector<unwind::Call>* calls) const {
  const size_t here = std::min<size_t>(count_, kInlineCalls);
  const size_t before = calls->size();
  calls->resize(before + here);
  unwind::Call* const out = calls->data() + before;
  for (size_t i = 0; i < here; ++i) out[i] = {Load(2 * i), Load(2 * i + 1)};
  if (deep_ != nullptr) calls->insert(calls->end(), deep_->calls.begin(), deep_->calls.end());
}

void BranchHistory::Clear() {
  deep_.reset();
  count_ = 0;
  top_of_stack_ = -1;
  truncated_ = reaches_start_ = false;
}

void BranchHistory::Store(uint64_t time_ns, std::span<const unwind::Call> calls, bool reaches_start,
                          std::optional<uint32_t> top_of_stack) {
  Clear();
  time_ns_ = time_ns;
  const bool fits = std::all_of(calls.begin(), calls.end(), [](const unwind::Call& call) {
    return call.from < kEndOfUserSpace && call.to < kEndOfUserSpace;
  });
  if (!fits) return;
  size_t kept = std::min(calls.size(), kMaxCalls);
  if (kept > kInlineCalls && !TakeDeepBytes(BytesOf(kept - kInlineCalls))) kept = kInlineCalls;
  if (kept > kInlineCalls) {
    deep_ = std::make_shared<const Deep>(calls.subspan(kInlineCalls, kept - kInlineCalls));
  }
  uint8_t* out = bytes_.data();
  for (const unwind::Call& call : calls.first(std::min(kept, kInlineCalls))) {
    // Little-endian: the low bytes come first, and the next address takes the place of the rest.
    std::memcpy(out, &call.from, sizeof(call.from));
    std::memcpy(out + kAddressBytes, &call.to, sizeof(call.to));
    out += 2 * kAddressBytes;
  }
  count_ = static_cast<uint16_t>(kept);
  truncated_ = kept < calls.size();
  reaches_start_ = reaches_start && !truncated_;
  if (top_of_stack.has_value()) top_of_stack_ = static_cast<int8_t>(*top_of_stack);
}

uint64_t BranchHistory::Load(size_t address) const {
  uint64_t value;
  std::memcpy(&value, bytes_.data() + address * kAddressBytes, sizeof(value));
  return value & ((uint64_t{1} << (8 * kAddressBytes)) - 1);
}

}  // namespace lbrd::daemon
