// The last logical stack of a task as its LBR told it: what the window of its next sample is
// stitched to, where the hardware's few registers lost the older calls.
//
// A call is a pair of user addresses, 6 bytes each: those below 2^47, which is all of user space
// unless a program asks for more (5-level paging). A stack with an address beyond is not kept: the
// history is then empty, which means unknown.
//
// Bounds: kInlineCalls calls, 792 bytes in all, stand here. Those of a deeper stack stand in a
// block of their own, kDeepBlockBytes and 16 a call; all such blocks together take at most
// kMaxDeepBytes. Beyond that, and beyond kMaxCalls, the calls nearest the leaf are kept, and
// truncated() says so.
// Thread rules: one owner at a time; the blocks' account is shared by all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "unwind/call_history.h"

namespace lbrd::daemon {

class BranchHistory {
 public:
  static constexpr size_t kInlineCalls = 64;
  static constexpr size_t kMaxCalls = 1024;
  static constexpr size_t kMaxDeepBytes = size_t{64} << 20;
  // Of a block without its calls: its vector, and the allocator's two headers.
  static constexpr size_t kDeepBlockBytes = 56;

  BranchHistory() = default;
  BranchHistory(const BranchHistory&) = delete;
  BranchHistory& operator=(const BranchHistory&) = delete;

  // Replaces what is kept.
  void Store(const unwind::CallHistory& history);
  // Replaces *history by what is kept: all of it, but for what truncated() speaks of.
  void Load(unwind::CallHistory* history) const;
  // Unknown from here on.
  void Clear();

  bool empty() const { return count_ == 0; }
  bool truncated() const { return truncated_; }
  uint64_t time_ns() const { return time_ns_; }

  // Of all histories there are.
  static size_t deep_bytes();

 private:
  struct Deep {
    explicit Deep(std::span<const unwind::Call> deep) : calls(deep.begin(), deep.end()) {}
    Deep(const Deep&) = delete;
    Deep& operator=(const Deep&) = delete;
    ~Deep();
    const std::vector<unwind::Call> calls;
  };
  struct PackedCall {
    explicit PackedCall(const unwind::Call& call)
        : from_low(static_cast<uint32_t>(call.from)),
          to_low(static_cast<uint32_t>(call.to)),
          from_high(static_cast<uint16_t>(call.from >> 32)),
          to_high(static_cast<uint16_t>(call.to >> 32)) {}
    PackedCall() {}  // not initialized: what lies beyond count_ is never read
    unwind::Call Unpacked() const {
      return {uint64_t{from_high} << 32 | from_low, uint64_t{to_high} << 32 | to_low};
    }
    uint32_t from_low, to_low;
    uint16_t from_high, to_high;
  };
  static_assert(sizeof(PackedCall) == 12);

  uint64_t time_ns_ = 0;
  std::unique_ptr<const Deep> deep_;  // the calls from kInlineCalls on; nullptr: there are none
  uint16_t count_ = 0;
  int8_t top_of_stack_ = -1;  // the hardware has at most 64 entries; -1: not known
  bool truncated_ = false;
  bool reaches_start_ = false;
  std::array<PackedCall, kInlineCalls> calls_;
};
static_assert(sizeof(BranchHistory) == 792);

}  // namespace lbrd::daemon
