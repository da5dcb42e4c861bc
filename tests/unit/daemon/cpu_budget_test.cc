#include "daemon/cpu_budget.h"

#include <gtest/gtest.h>

namespace lbrd::daemon {
namespace {

// A daemon whose cost is proportional to its rate.
class CpuBudgetTest : public ::testing::Test {
 protected:
  // A window in which the daemon would use `percent` of the machine at full rate.
  uint32_t Window(double percent, double share = 1) {
    now_ += CpuBudget::kWindow;
    used_ += CpuBudget::kWindow * 4 * (percent / 100 / slow_down_);
    return slow_down_ = budget_.Next(used_, now_, share);
  }

  CpuBudget budget_{4};
  absl::Time now_ = absl::UnixEpoch();
  absl::Duration used_ = absl::Hours(1);  // before the first window: of no concern
  uint32_t slow_down_ = 1;
};

TEST_F(CpuBudgetTest, WithinTheBudgetNothingHappens) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Window(0.99), 1u);
}

TEST_F(CpuBudgetTest, WithoutABudgetNothingHappens) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Window(400, 0), 1u);
}

TEST_F(CpuBudgetTest, OneWindowIsEnoughToFallWithin) {
  Window(0);
  EXPECT_EQ(Window(5.5), 8u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Window(5.5), 8u) << "4 would be over";
}

TEST_F(CpuBudgetTest, ItComesBackByStepsWhenThereIsRoom) {
  Window(0);
  EXPECT_EQ(Window(7.9), 8u);
  for (int i = 1; i < CpuBudget::kCalmWindows; ++i) EXPECT_EQ(Window(0.5), 8u);
  EXPECT_EQ(Window(0.5), 4u);
  for (int i = 1; i < CpuBudget::kCalmWindows; ++i) EXPECT_EQ(Window(0.5), 4u);
  EXPECT_EQ(Window(0.5), 2u);
  for (int i = 0; i < CpuBudget::kCalmWindows; ++i) Window(0.5);
  EXPECT_EQ(slow_down_, 1u);
}

TEST_F(CpuBudgetTest, OneBusyWindowBeginsTheCalmAnew) {
  Window(0);
  EXPECT_EQ(Window(1.9), 2u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Window(0.1), 2u);
    EXPECT_EQ(Window(0.1), 2u);
    EXPECT_EQ(Window(1.9), 2u);
  }
}

TEST_F(CpuBudgetTest, WhatNoStepHelpsEndsAtTheSlowest) {
  Window(0);
  for (int i = 0; i < 20; ++i) Window(1e6);
  EXPECT_EQ(slow_down_, CpuBudget::kMaxSlowDown);
}

TEST_F(CpuBudgetTest, ABudgetThatIsTakenBackEndsIt) {
  Window(0);
  EXPECT_EQ(Window(5), 8u);
  EXPECT_EQ(Window(5, 0), 1u);
}

TEST_F(CpuBudgetTest, HalfAWindowDecidesNothing) {
  Window(0);
  now_ += CpuBudget::kWindow / 2;
  used_ += absl::Seconds(100);
  EXPECT_EQ(budget_.Next(used_, now_, 1), 1u);
}

}  // namespace
}  // namespace lbrd::daemon
