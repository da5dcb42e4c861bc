#include "tests/sim/user_stack.h"

#include <algorithm>

#include "tests/sim/program.h"

namespace lbrd::sim {

uint64_t CopyUserStack(const Truth& truth, std::span<uint64_t> out) {
  std::fill(out.begin(), out.end(), 0);
  const uint64_t words =
      std::min<uint64_t>(out.size(), (truth.stack_top - truth.stack_pointer) / 8);
  const size_t calls = truth.call_sites.size();
  for (size_t age = 0; age < calls; ++age) {
    // The frame of the age-th youngest function; its caller's is one slot up.
    const uint64_t frame = FramePointerAt(truth.stack_top, calls + 1 - age);
    const uint64_t word = (frame - truth.stack_pointer) / 8;
    if (word < words) out[word] = frame + kStackSlotBytes;
    if (word + 1 < words) out[word + 1] = truth.call_sites[age] + kCallBytes;
  }
  return words * 8;
}

}  // namespace lbrd::sim
