#include "pmu/thread_slot.h"

#include <bit>

namespace lbrd::pmu {
namespace {

constexpr uint32_t kWordBits = 64;
constinit std::atomic<uint64_t> taken[kThreadSlots / kWordBits] = {};  // a bit for each number
constinit std::atomic<uint32_t> ever_used = 0;

uint32_t TakeLowest() {
  for (uint32_t word = 0; word < kThreadSlots / kWordBits; ++word) {
    uint64_t bits = taken[word].load(std::memory_order_relaxed);
    while (bits != UINT64_MAX) {
      const uint64_t lowest_free = ~bits & (bits + 1);
      // A pairs with B.
      if (taken[word].compare_exchange_weak(bits, bits | lowest_free, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
        return word * kWordBits + static_cast<uint32_t>(std::countr_zero(lowest_free));
      }
    }
  }
  return kNoThreadSlot;
}

// Gives the number back when its thread ends. Destructors of other thread_local objects may still
// ask after that: they get none, since nothing would give it back.
class Return {
 public:
  Return() = default;
  Return(const Return&) = delete;
  Return& operator=(const Return&) = delete;
  ~Return() {
    const uint32_t slot = internal::this_thread_slot;
    internal::this_thread_slot = kNoThreadSlot;
    if (slot >= kThreadSlots) return;
    // B: what this thread did in its slots happens before what the next owner does (A).
    taken[slot / kWordBits].fetch_and(~(uint64_t{1} << slot % kWordBits),
                                      std::memory_order_release);
  }
  void Arm() const {}  // a use is what makes a thread_local object exist
};
thread_local const Return give_back;

}  // namespace

namespace internal {

uint32_t ClaimThreadSlot() {
  give_back.Arm();
  const uint32_t slot = TakeLowest();
  if (slot != kNoThreadSlot) {
    uint32_t used = ever_used.load(std::memory_order_relaxed);
    while (used <= slot && !ever_used.compare_exchange_weak(used, slot + 1)) {
    }
  }
  this_thread_slot = slot;
  return slot;
}

}  // namespace internal

uint32_t ThreadSlotsEverUsed() { return ever_used.load(); }

}  // namespace lbrd::pmu
