#include "daemon/request_budget.h"

#include <gtest/gtest.h>

namespace lbrd::daemon {
namespace {

TEST(RequestBudgetTest, GivesABurstThenARateToEachUser) {
  RequestBudget budget(10);
  absl::Time now = absl::FromUnixSeconds(1000);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(budget.Take(1500, 1, now));
  EXPECT_FALSE(budget.Take(1500, 1, now));
  EXPECT_TRUE(budget.Take(1501, 1, now)) << "another user's";
  now += absl::Milliseconds(100);
  EXPECT_TRUE(budget.Take(1500, 1, now));
  EXPECT_FALSE(budget.Take(1500, 1, now));
  EXPECT_FALSE(budget.Take(1500, 1, now - absl::Hours(1))) << "the clock was set back";
}

TEST(RequestBudgetTest, ADearRequestCostsMore) {
  RequestBudget budget(10);
  const absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_TRUE(budget.Take(1500, 20, now));
  EXPECT_FALSE(budget.Take(1500, 1, now));
}

TEST(RequestBudgetTest, ManyUsersDoNotRefillAnybody) {
  RequestBudget budget(10);
  const absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_TRUE(budget.Take(1500, 20, now));
  for (uint32_t uid = 100'000; uid < 105'000; ++uid) EXPECT_TRUE(budget.Take(uid, 1, now));
  EXPECT_FALSE(budget.Take(1500, 1, now));
}

}  // namespace
}  // namespace lbrd::daemon
