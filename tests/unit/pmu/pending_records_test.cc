#include "pmu/pending_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The records that can go, as (time, event) with the event standing for the record's identity.
std::vector<uint64_t> PopAll(PendingRecords& pending, std::vector<uint32_t>* events = nullptr) {
  std::vector<uint64_t> times;
  PendingRecord record;
  while (pending.Pop(/*force=*/false, &record)) {
    times.push_back(record.time);
    if (events != nullptr) events->push_back(record.event);
  }
  return times;
}

void Add(PendingRecords& pending, std::vector<uint64_t> times) {
  for (const uint64_t time : times) pending.Add({.time = time});
}

TEST(PendingRecords, ARoundReleasesWhatTheOneBeforeHadSeen) {
  PendingRecords pending;
  Add(pending, {10, 30, 20});
  EXPECT_THAT(PopAll(pending), IsEmpty());
  pending.EndRound();
  EXPECT_THAT(PopAll(pending), IsEmpty()) << "elders may arrive in the next round";
  Add(pending, {15, 40, 25, 50});
  pending.EndRound();
  EXPECT_THAT(PopAll(pending), ElementsAre(10, 15, 20, 25, 30));
  pending.EndRound();
  EXPECT_THAT(PopAll(pending), ElementsAre(40, 50));
  EXPECT_EQ(pending.late(), 0u);
}

TEST(PendingRecords, BetweenRoundsNothingGoes) {
  PendingRecords pending;
  Add(pending, {10});
  pending.EndRound();
  Add(pending, {20});
  pending.EndRound();
  EXPECT_THAT(PopAll(pending), ElementsAre(10));
  Add(pending, {5, 4});  // late, but in order among themselves once they go
  EXPECT_THAT(PopAll(pending), IsEmpty());
  pending.EndRound();
  EXPECT_THAT(PopAll(pending), ElementsAre(4, 5, 20));
  EXPECT_EQ(pending.late(), 2u);
}

TEST(PendingRecords, WithoutATimeTheyGoAtOnce) {
  PendingRecords pending;
  EXPECT_FALSE(pending.has_timed());
  Add(pending, {0, 0});
  EXPECT_FALSE(pending.has_timed());
  Add(pending, {10, 0});
  EXPECT_TRUE(pending.has_timed());
  EXPECT_THAT(PopAll(pending), ElementsAre(0, 0, 0));
  pending.ReleaseAll();
  EXPECT_THAT(PopAll(pending), ElementsAre(10));
  Add(pending, {0});
  EXPECT_THAT(PopAll(pending), ElementsAre(0));
  EXPECT_EQ(pending.late(), 0u);
}

TEST(PendingRecords, EqualTimesKeepTheirOrder) {
  PendingRecords pending;
  const uint64_t times[] = {5, 7, 5, 3, 5, 7, 3};
  for (uint32_t i = 0; i < std::size(times); ++i) pending.Add({.time = times[i], .event = i});
  pending.ReleaseAll();
  std::vector<uint32_t> events;
  EXPECT_THAT(PopAll(pending, &events), ElementsAre(3, 3, 5, 5, 5, 7, 7));
  EXPECT_THAT(events, ElementsAre(3, 6, 0, 2, 4, 1, 5));
}

TEST(PendingRecords, ForceTakesTheOldestAndCountsWhatThenComesLate) {
  PendingRecords pending;
  Add(pending, {30, 20});
  PendingRecord record;
  ASSERT_TRUE(pending.Pop(/*force=*/true, &record));
  EXPECT_EQ(record.time, 20u);
  Add(pending, {10});
  ASSERT_TRUE(pending.Pop(/*force=*/true, &record));
  EXPECT_EQ(record.time, 10u);
  EXPECT_EQ(pending.late(), 1u);
  ASSERT_TRUE(pending.Pop(/*force=*/true, &record));
  EXPECT_EQ(record.time, 30u);
  EXPECT_FALSE(pending.Pop(/*force=*/true, &record));
  EXPECT_TRUE(pending.empty());
  EXPECT_EQ(pending.bytes(), 0u);
}

TEST(PendingRecords, SortsAnything) {
  std::mt19937_64 random(1);
  PendingRecords pending;
  std::vector<uint64_t> expected;
  std::vector<uint64_t> popped;
  for (int round = 0; round < 200; ++round) {
    // Some rings, each in order; now and then a descending mess; slots are reused meanwhile.
    for (int ring = 0; ring < 4; ++ring) {
      uint64_t time = static_cast<uint64_t>(round) * 1000 + random() % 500;
      for (uint64_t n = random() % 20; n > 0; --n) {
        time = round % 7 == 0 ? time - random() % 3 : time + random() % 20;
        pending.Add({.time = time});
        expected.push_back(time);
      }
    }
    pending.EndRound();
    for (const uint64_t time : PopAll(pending)) popped.push_back(time);
  }
  pending.ReleaseAll();
  for (const uint64_t time : PopAll(pending)) popped.push_back(time);
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(popped, expected);
  EXPECT_EQ(pending.late(), 0u);
}

}  // namespace
}  // namespace lbrd::pmu
