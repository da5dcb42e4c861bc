#include "unwind/lbr_window.h"

#include "gtest/gtest.h"

namespace lbrd::unwind {
namespace {

constexpr Verdict kFull{StackState::kTruncated, StackReason::kLbrFull};
constexpr Verdict kBaseUnknown{StackState::kUnknown, StackReason::kLbrBaseUnknown};

Verdict Judge(size_t entries, uint32_t depth) { return JudgeLbrWindow(entries, depth); }

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

}  // namespace
}  // namespace lbrd::unwind
