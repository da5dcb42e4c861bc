// A small number for each thread: the index of what is kept per thread in an array.
//
// A thread gets the lowest free number when it first asks and gives it back when it ends, so
// numbers stay as small as the largest count of threads that lived at once. Threads beyond
// kThreadSlots at once, and threads that ask while they are ending, have none: kNoThreadSlot.
//
// Thread rules: any thread, at any time. What the last owner of a number did happens before what
// the next one does.
#pragma once

#include <atomic>
#include <cstdint>

namespace lbrd::pmu {

inline constexpr uint32_t kThreadSlots = 256;
inline constexpr uint32_t kNoThreadSlot = kThreadSlots;

namespace internal {
inline constexpr uint32_t kNotAskedYet = UINT32_MAX;
inline constinit thread_local uint32_t this_thread_slot = kNotAskedYet;
uint32_t ClaimThreadSlot();
}  // namespace internal

inline uint32_t ThreadSlot() {
  const uint32_t slot = internal::this_thread_slot;
  if (slot == internal::kNotAskedYet) [[unlikely]] {
    return internal::ClaimThreadSlot();
  }
  return slot;
}

// Every number that was ever given is smaller. It is raised (sequentially consistent) before the
// number is given.
uint32_t ThreadSlotsEverUsed();

}  // namespace lbrd::pmu
