#include "daemon/health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;

class HealthTest : public ::testing::Test {
 protected:
  absl::Status Check(uint64_t reader, uint64_t worker, bool worker_busy) {
    return health_.Check(
        {{"night", {{"lbrd-read", reader, true}, {"lbrd-work-0", worker, worker_busy}}}}, now_);
  }
  Health health_;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(HealthTest, ThreadsThatGoOnAreWell) {
  for (uint64_t step = 0; step < 10; ++step, now_ += Health::kPatience) {
    EXPECT_TRUE(Check(step, step, true).ok());
  }
}

TEST_F(HealthTest, AWorkerWithNothingToDoIsWell) {
  for (uint64_t step = 0; step < 10; ++step, now_ += Health::kPatience) {
    EXPECT_TRUE(Check(step, 7, false).ok());
  }
  // Its patience begins when it gets something to do.
  EXPECT_TRUE(Check(20, 7, true).ok());
}

TEST_F(HealthTest, ABusyThreadThatStandsStillIsToldAndForgivenWhenItGoesOn) {
  EXPECT_TRUE(Check(1, 7, true).ok());
  now_ += Health::kPatience - absl::Seconds(1);
  EXPECT_TRUE(Check(2, 7, true).ok());
  now_ += absl::Seconds(1);
  const absl::Status stuck = Check(3, 7, true);
  EXPECT_EQ(stuck.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(stuck.message()), HasSubstr("lbrd-work-0 of session 'night'"));
  EXPECT_TRUE(Check(4, 8, true).ok());
}

TEST_F(HealthTest, ASessionThatIsGoneIsForgotten) {
  EXPECT_TRUE(Check(1, 7, true).ok());
  now_ += Health::kPatience;
  EXPECT_TRUE(health_.Check({}, now_).ok());
  now_ += Health::kPatience;
  EXPECT_TRUE(Check(1, 7, true).ok());
}

}  // namespace
}  // namespace lbrd::daemon
