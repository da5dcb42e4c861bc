#include "pmu/thread_slot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <latch>
#include <set>
#include <thread>
#include <vector>

namespace lbrd::pmu {
namespace {

// The numbers of `count` threads that live at the same time.
std::vector<uint32_t> SlotsOfThreads(int count) {
  std::latch all_asked(count);
  std::vector<uint32_t> slots(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      slots[i] = ThreadSlot();
      all_asked.arrive_and_wait();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return slots;
}

TEST(ThreadSlot, StaysTheSameForAThread) {
  const uint32_t slot = ThreadSlot();
  EXPECT_LT(slot, ThreadSlotsEverUsed());
  EXPECT_EQ(ThreadSlot(), slot);
}

TEST(ThreadSlot, DiffersBetweenThreadsThatLiveAtOnce) {
  const uint32_t own = ThreadSlot();  // before the others leave theirs
  const std::vector<uint32_t> slots = SlotsOfThreads(40);
  EXPECT_EQ(std::set<uint32_t>(slots.begin(), slots.end()).size(), 40u);
  EXPECT_EQ(std::ranges::count(slots, own), 0);
}

TEST(ThreadSlot, IsGivenToTheNextThread) {
  ThreadSlot();
  const uint32_t used = std::max(ThreadSlotsEverUsed(), 5u);
  for (int round = 0; round < 300; ++round) SlotsOfThreads(4);
  EXPECT_LE(ThreadSlotsEverUsed(), used);
}

TEST(ThreadSlot, IsNoneForThreadsBeyondTheBound) {
  ThreadSlot();
  const std::vector<uint32_t> slots = SlotsOfThreads(kThreadSlots + 9);
  EXPECT_EQ(std::ranges::count(slots, kNoThreadSlot), 10);
  EXPECT_EQ(ThreadSlotsEverUsed(), kThreadSlots);
  EXPECT_FALSE(std::ranges::count(SlotsOfThreads(8), kNoThreadSlot));  // all were given back
}

struct AsksWhileItEnds {
  ~AsksWhileItEnds() {
    if (last != nullptr) *last = ThreadSlot();
  }
  uint32_t* last = nullptr;
};
thread_local AsksWhileItEnds asks;

TEST(ThreadSlot, IsNoneForAThreadThatIsEnding) {
  uint32_t first = kNoThreadSlot;
  uint32_t last = 0;
  std::thread([&] {
    asks.last = &last;  // made before the number is asked for: destroyed after it is given back
    first = ThreadSlot();
  }).join();
  EXPECT_NE(first, kNoThreadSlot);
  EXPECT_EQ(last, kNoThreadSlot);
}

}  // namespace
}  // namespace lbrd::pmu
