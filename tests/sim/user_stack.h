// The memory of a simulated user stack: one slot a frame, chained by frame pointers.
//
//     frame pointer     -> the caller's frame pointer (0 in the oldest frame)
//     frame pointer + 8 -> the return address         (0 in the oldest frame)
//
// It grows down from the stack's top; all other words are 0. So a walk of frame pointers and call
// frame information of the usual form (CFA = rbp + 16) both find the truth.
//
// Pure. Thread rules: none.
#pragma once

#include <cstdint>
#include <span>

#include "tests/sim/truth.h"

namespace lbrd::sim {

inline constexpr uint64_t kStackSlotBytes = 64;
// The stack pointer stands this far below the leaf's frame pointer.
inline constexpr uint64_t kLeafLocalsBytes = 32;

// Of the frame at `depth` (1: the oldest).
constexpr uint64_t FramePointerAt(uint64_t stack_top, uint64_t depth) {
  return stack_top - kStackSlotBytes * depth;
}

// Copies from the stack pointer up; what is beyond the stack's top stays zero. Bytes copied.
uint64_t CopyUserStack(const Truth& truth, std::span<uint64_t> out);

}  // namespace lbrd::sim
