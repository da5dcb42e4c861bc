#include "pmu/record_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lbrd::pmu {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// All counts. With a field more this does not compile: operator+= wants it as well.
std::array<uint64_t*, 14> CountsOf(SourceStats& stats) {
  auto& [samples, other_records, lost_samples, lost_other, late_records, undecodable, throttled,
         kernel_count, time_enabled_ns, time_running_ns, duplicates, other_users, gap_count, gap_ns,
         gaps, recent_gaps, gaps_by_cpu] = stats;
  return {&samples,     &other_records, &lost_samples, &lost_other,      &late_records,
          &undecodable, &throttled,     &kernel_count, &time_enabled_ns, &time_running_ns,
          &duplicates,  &other_users,   &gap_count,    &gap_ns};
}

// Its counts are `first`, twice that, and so on: no sum of two is another's.
SourceStats MadeStats(uint64_t first) {
  SourceStats stats;
  uint64_t next = 0;
  for (uint64_t* count : CountsOf(stats)) *count = next += first;
  return stats;
}

TEST(SourceStatsTest, EachCountIsSummed) {
  SourceStats sum = MadeStats(1);
  sum += MadeStats(100);
  uint64_t expected = 0;
  for (const uint64_t* count : CountsOf(sum)) EXPECT_EQ(*count, expected += 101);
}

TEST(SourceStatsTest, TheFirstGapsAreKeptAndNoMoreThanThereIsRoomFor) {
  SourceStats few;
  few.gaps = {{.cpu = 1}};
  SourceStats sum;
  sum += few;
  EXPECT_THAT(sum.gaps, SizeIs(1));
  SourceStats many;
  for (int32_t cpu = 2; cpu < 100; ++cpu) many.gaps.push_back({.cpu = cpu});
  sum += many;
  ASSERT_THAT(sum.gaps, SizeIs(kMaxGaps));
  for (size_t i = 0; i < kMaxGaps; ++i) EXPECT_EQ(sum.gaps[i].cpu, static_cast<int32_t>(i) + 1);
  sum += few;
  EXPECT_THAT(sum.gaps, SizeIs(kMaxGaps));
}

TEST(SourceStatsTest, WhatIsOfOneSourceStaysItsOwn) {
  SourceStats other;
  other.recent_gaps = {{.cpu = 1}};
  other.gaps_by_cpu = {{.cpu = 1}};
  SourceStats sum;
  sum += other;
  EXPECT_THAT(sum.recent_gaps, IsEmpty());
  EXPECT_THAT(sum.gaps_by_cpu, IsEmpty());
}

}  // namespace
}  // namespace lbrd::pmu
