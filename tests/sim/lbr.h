// One CPU's Last Branch Records, as the hardware fills them and as the kernel reads them.
//
// In call-stack mode a call pushes an entry over the oldest one, a return pops the youngest; what
// was pushed over is gone, so a window is the youngest `depth` calls at most. In branch mode (any
// other filter) calls and returns follow each other. Source: the Intel SDM, volume 3, "Last Branch
// Records", and the project's facts about LBR. A popped entry reads as empty.
//
// Size: 24 bytes an entry, 32 at most, and 16 more. Thread rules: one owner.
#pragma once

#include <array>
#include <cstdint>

#include "pmu/record.h"

namespace lbrd::sim {

inline constexpr uint32_t kMaxLbrDepth = 32;

enum class LbrKind : uint8_t {
  kNone,
  kLegacy,                // a top-of-stack index that samples report
  kArchitectural,         // no index: reported as 0
  kArchitecturalMinusOne  // no index: reported as -1
};

class Lbr {
 public:
  explicit Lbr(uint32_t depth = kMaxLbrDepth) : depth_(depth) {}

  void Reset() {
    size_ = 0;
    top_ = depth_ - 1;
  }
  void Call(uint64_t from, uint64_t to) { Push(from, to); }
  void Return(uint64_t from, uint64_t to, bool call_stack) {
    if (!call_stack) return Push(from, to);
    // The index goes down even where nothing is left: legacy readers see it move.
    top_ = (top_ + depth_ - 1) % depth_;
    if (size_ > 0) --size_;
  }

  uint32_t depth() const { return depth_; }
  uint32_t size() const { return size_; }
  // 0: the youngest.
  const pmu::Branch& entry(uint32_t age) const {
    return entries_[(top_ + depth_ - age % depth_) % depth_];
  }
  uint32_t top_of_stack() const { return top_; }

 private:
  void Push(uint64_t from, uint64_t to) {
    top_ = (top_ + 1) % depth_;
    entries_[top_] = {from, to, 0};
    if (size_ < depth_) ++size_;
  }

  std::array<pmu::Branch, kMaxLbrDepth> entries_{};
  uint32_t depth_;
  uint32_t size_ = 0;
  uint32_t top_ = depth_ - 1;
};

}  // namespace lbrd::sim
