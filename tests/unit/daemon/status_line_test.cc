#include "daemon/status_line.h"

#include <gtest/gtest.h>

namespace lbrd::daemon {
namespace {

TEST(StatusLineTest, CountsSessionsAndWhatTheyGained) {
  StatusLine line;
  const absl::Time start = absl::UnixEpoch();
  EXPECT_EQ(line.Next({}, start), "no sessions");
  EXPECT_EQ(line.Next({{"a", 0}}, start + absl::Seconds(1)), "1 session, 0 samples/s");
  EXPECT_EQ(line.Next({{"a", 4028}, {"b", 6042}, {"c", 0}}, start + absl::Seconds(6)),
            "3 sessions, 2,014 samples/s");
  // One is gone, another began anew under the same name: neither counts backwards.
  EXPECT_EQ(line.Next({{"b", 50}}, start + absl::Seconds(11)), "1 session, 10 samples/s");
  EXPECT_EQ(line.Next({}, start + absl::Seconds(16)), "no sessions");
}

TEST(StatusLineTest, TheFirstHasNoRate) {
  EXPECT_EQ(StatusLine().Next({{"a", 100}}, absl::UnixEpoch()), "1 session");
}

TEST(StatusLineTest, Thousands) {
  EXPECT_EQ(WithThousands(0), "0");
  EXPECT_EQ(WithThousands(999), "999");
  EXPECT_EQ(WithThousands(1000), "1,000");
  EXPECT_EQ(WithThousands(123456), "123,456");
  EXPECT_EQ(WithThousands(1234567), "1,234,567");
}

}  // namespace
}  // namespace lbrd::daemon
