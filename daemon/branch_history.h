// The last logical stack of a task as its LBR told it: what the window of its next sample is
// stitched to, where the hardware's few registers lost the older calls.
//
// A call is a pair of user addresses, 6 bytes each: those below 2^47, which is all of user space
// unless a program asks for more (5-level paging). A stack with an address beyond is not kept: the
// history is then empty, which means unknown.
//
// Bounds: kMaxCalls calls, 776 bytes. Of a deeper stack the calls nearest the leaf are kept, and
// truncated() says so.
// Thread rules: one owner at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "pmu/record.h"

namespace lbrd::daemon {

class BranchHistory {
 public:
  static constexpr size_t kMaxCalls = 64;

  // Replaces what is kept by `calls`, leaf first, of a sample at `time_ns`.
  void Store(uint64_t time_ns, std::span<const pmu::Branch> calls);
  // Unknown from here on.
  void Clear() {
    count_ = 0;
    truncated_ = false;
  }

  bool empty() const { return count_ == 0; }
  bool truncated() const { return truncated_; }
  uint64_t time_ns() const { return time_ns_; }
  size_t size() const { return count_; }
  uint64_t from(size_t call) const { return Load(2 * call); }
  uint64_t to(size_t call) const { return Load(2 * call + 1); }

 private:
  static constexpr size_t kAddressBytes = 6;
  uint64_t Load(size_t address) const;

  uint64_t time_ns_ = 0;
  uint8_t count_ = 0;
  bool truncated_ = false;
  // Addresses from, to, from, to ...; not initialized: what lies beyond count_ is never read.
  std::array<uint8_t, 2 * kMaxCalls * kAddressBytes> bytes_;
};

}  // namespace lbrd::daemon
