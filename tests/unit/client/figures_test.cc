#include "client/figures.h"

#include <limits>

#include "gtest/gtest.h"

namespace lbrd::client {
namespace {

google::protobuf::Duration Duration(int64_t seconds, int32_t nanos) {
  google::protobuf::Duration duration;
  duration.set_seconds(seconds);
  duration.set_nanos(nanos);
  return duration;
}

TEST(Figures, SeparatesThousands) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(std::numeric_limits<uint64_t>::max()), "18,446,744,073,709,551,615");
  EXPECT_EQ(FormatCountOf(1, "sample"), "1 sample");
  EXPECT_EQ(FormatCountOf(1234, "sample"), "1,234 samples");
}

TEST(Figures, NeverRoundsToAllOrNothing) {
  EXPECT_EQ(FormatPercent(0, 0), "0.0%");
  EXPECT_EQ(FormatPercent(0, 7), "0.0%");
  EXPECT_EQ(FormatPercent(1, 3), "33.3%");
  EXPECT_EQ(FormatPercent(7, 7), "100.0%");
  EXPECT_EQ(FormatPercent(99'999, 100'000), "99.9%");
  EXPECT_EQ(FormatPercent(1, 100'000), "<0.1%");
  EXPECT_EQ(FormatPercent(3, 2), "150.0%");
}

TEST(Figures, ScalesDurations) {
  EXPECT_EQ(FormatDuration(Duration(0, 850'000'000)), "850 ms");
  EXPECT_EQ(FormatDuration(Duration(0, 999'900'000)), "1.0 s");
  EXPECT_EQ(FormatDuration(Duration(12, 340'000'000)), "12.3 s");
  EXPECT_EQ(FormatDuration(Duration(245, 0)), "4 min 05 s");
  EXPECT_EQ(FormatDuration(Duration(7380, 0)), "2 h 03 min");
}

TEST(Figures, KeepsHostileDurationsInRange) {
  EXPECT_EQ(DurationNanos(Duration(1, 5)), 1'000'000'005);
  EXPECT_EQ(DurationNanos(Duration(-1, 0)), 0);
  EXPECT_EQ(DurationNanos(Duration(std::numeric_limits<int64_t>::max(), 0)),
            std::numeric_limits<int64_t>::max());
  EXPECT_EQ(DurationNanos(Duration(1, 2'000'000'000)), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace lbrd::client
