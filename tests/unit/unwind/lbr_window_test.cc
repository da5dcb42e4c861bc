#include "unwind/lbr_window.h"

#include <vector>

#include "gtest/gtest.h"

namespace lbrd::unwind {
namespace {

constexpr uint64_t kStart = 0x57a27;

constexpr Verdict kComplete{StackState::kComplete, StackReason::kNone};
constexpr Verdict kFull{StackState::kTruncated, StackReason::kLbrFull};
constexpr Verdict kBaseUnknown{StackState::kUnknown, StackReason::kLbrBaseUnknown};
constexpr Verdict kBelowStart{StackState::kUnknown, StackReason::kFramesBelowStart};

// `entries` calls, youngest first, of which the one at `start` is made by a thread's start.
Verdict Judge(size_t entries, uint32_t depth, size_t start = SIZE_MAX) {
  std::vector<pmu::Branch> branches;
  for (size_t i = 0; i < entries; ++i) {
    // Where a call goes says nothing of who made it.
    branches.push_back({.from = i == start ? kStart : 0x1000 + i, .to = kStart, .flags = 0});
  }
  return JudgeLbrWindow({.branches = branches, .hw_index = std::nullopt}, depth,
                        [](uint64_t address) { return address == kStart; });
}

TEST(LbrWindow, EmptySaysNothing) {
  EXPECT_EQ(Judge(0, 32), (Verdict{StackState::kUnknown, StackReason::kLbrEmpty}));
  EXPECT_EQ(Judge(0, 0), (Verdict{StackState::kUnknown, StackReason::kLbrEmpty}));
}

TEST(LbrWindow, WithRoomLeftItsBaseIsUnknown) {
  EXPECT_EQ(Judge(1, 32), kBaseUnknown);
  EXPECT_EQ(Judge(31, 32), kBaseUnknown);
  EXPECT_EQ(Judge(7, 8), kBaseUnknown);
}

TEST(LbrWindow, FullAtItsDepth) {
  EXPECT_EQ(Judge(16, 16), kFull);
  EXPECT_EQ(Judge(32, 32), kFull);
  EXPECT_EQ(Judge(8, 8), kFull);
  EXPECT_EQ(Judge(40, 32), kFull);
  // Room left, since the depth is known.
  EXPECT_EQ(Judge(16, 32), kBaseUnknown);
}

TEST(LbrWindow, WithoutADepthAnyThatHardwareHasMayBeFull) {
  EXPECT_EQ(Judge(15, 0), kBaseUnknown);
  EXPECT_EQ(Judge(16, 0), kFull);
  EXPECT_EQ(Judge(17, 0), kBaseUnknown);
  EXPECT_EQ(Judge(31, 0), kBaseUnknown);
  EXPECT_EQ(Judge(32, 0), kFull);
  EXPECT_EQ(Judge(64, 0), kFull);
}

TEST(LbrWindow, CompleteWithAThreadsStartOutermost) {
  EXPECT_EQ(Judge(1, 32, 0), kComplete);
  EXPECT_EQ(Judge(20, 32, 19), kComplete);
  // The last slot was taken by the first call: nothing fell out.
  EXPECT_EQ(Judge(32, 32, 31), kComplete);
  EXPECT_EQ(Judge(16, 0, 15), kComplete);
}

TEST(LbrWindow, FramesOlderThanAThreadsStartAreForeign) {
  EXPECT_EQ(Judge(20, 32, 18), kBelowStart);
  EXPECT_EQ(Judge(20, 32, 0), kBelowStart);
  EXPECT_EQ(Judge(32, 32, 5), kBelowStart);
}

}  // namespace
}  // namespace lbrd::unwind
