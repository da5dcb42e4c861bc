// How many tasks (or CPUs) have one use of a resource, how many have two, and so on: enough to know
// the largest number of uses at once without looking at all of them.
//
// Thread rules: Move() from any thread. Largest() and empty() mean something only while nobody
// moves; see admission.h.
// Size: 4 bytes a count, 128 bytes.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace lbrd::pmu {

class SlotHistogram {
 public:
  // Whoever has more counts as having this many: more than any resource has.
  static constexpr int kMaxSlots = 32;

  // Somebody had `before` uses and now has `after`; 0: is not counted.
  void Move(int before, int after) {
    before = std::min(before, kMaxSlots);
    after = std::min(after, kMaxSlots);
    if (before == after) return;
    if (before > 0) counts_[before - 1].fetch_sub(1, std::memory_order_relaxed);
    if (after > 0) counts_[after - 1].fetch_add(1, std::memory_order_relaxed);
  }

  // The largest number of uses that anybody has.
  int Largest() const {
    for (int uses = kMaxSlots; uses > 0; --uses) {
      if (counts_[uses - 1].load(std::memory_order_relaxed) != 0) return uses;
    }
    return 0;
  }

  bool empty() const { return Largest() == 0; }

 private:
  std::array<std::atomic<int32_t>, kMaxSlots> counts_{};
};

}  // namespace lbrd::pmu
