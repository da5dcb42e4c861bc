#include "daemon/history_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../pmu/fake_kernel.h"
#include "history_files.h"

namespace lbrd::daemon {
namespace {

constexpr uint64_t kS = kSecond;
constexpr int64_t kUnixOffset = 1000 * kSecond;

class HistoryRecorderTest : public ::testing::Test {
 protected:
  HistoryRecorderTest() {
    kernel_.now = 15 * kS;
    recorder_.Begin([this] { return lost_; });
  }
  std::vector<HistoryBucket> Seal(bool all = false) {
    return recorder_.Seal(all, kUnixOffset, [this](int32_t pid, uint64_t first_ns) {
      asked_.emplace_back(pid, first_ns);
      return MakeFacts(7);
    });
  }
  void Deliver(std::vector<uint64_t> times) {
    for (const uint64_t time : times) {
      const Sample sample = MakeSample(time, stack_, thread_);
      recorder_.Deliver({&sample, 1});
    }
  }
  // begin and end in seconds of CLOCK_MONOTONIC, and samples.
  static std::vector<std::tuple<int64_t, int64_t, uint64_t>> Spans(
      const std::vector<HistoryBucket>& buckets) {
    std::vector<std::tuple<int64_t, int64_t, uint64_t>> spans;
    for (const HistoryBucket& bucket : buckets) {
      spans.emplace_back((bucket.begin_ns - kUnixOffset) / kSecond,
                         (bucket.end_ns - kUnixOffset) / kSecond, bucket.samples());
    }
    return spans;
  }
  using S = std::tuple<int64_t, int64_t, uint64_t>;

  pmu::FakeKernel kernel_;
  uint64_t lost_ = 0;
  int woken_ = 0;
  HistoryRecorder recorder_{
      &kernel_, "s", 3, {{"cycles", "cycles"}, {"clock", "ns"}}, 10 * kS, [this] { ++woken_; }};
  std::vector<std::pair<int32_t, uint64_t>> asked_;
  const std::shared_ptr<const StackInfo> stack_ = NumberedStack(1);
  const std::shared_ptr<const ThreadInfo> thread_ = MakeThread(1);
};

TEST_F(HistoryRecorderTest, SealsWhatIsOverAndCoversTheSessionsWholeLife) {
  kernel_.now = 32 * kS;
  Deliver({16 * kS, 17 * kS, 31 * kS});
  EXPECT_THAT(Spans(Seal()), ::testing::ElementsAre(S{15, 20, 2})) << "the next may not be over";
  kernel_.now = 45 * kS;
  EXPECT_THAT(Spans(Seal()), ::testing::ElementsAre(S{20, 30, 0}, S{30, 40, 1}));
  EXPECT_TRUE(Seal().empty());
  recorder_.End();
  EXPECT_THAT(Spans(Seal()), ::testing::ElementsAre(S{40, 45, 0}));
}

TEST_F(HistoryRecorderTest, WhatComesLateMakesABucketOfItsOwnTime) {
  kernel_.now = 45 * kS;
  EXPECT_THAT(Spans(Seal()), ::testing::ElementsAre(S{15, 40, 0}));
  Deliver({33 * kS});
  EXPECT_THAT(Spans(Seal()), ::testing::ElementsAre(S{30, 40, 1}));
}

TEST_F(HistoryRecorderTest, AllIncludesTheBucketThatIsBeingFilled) {
  kernel_.now = 33 * kS;
  Deliver({31 * kS});
  EXPECT_THAT(Spans(Seal(true)), ::testing::ElementsAre(S{15, 30, 0}, S{30, 33, 1}));
  Deliver({32 * kS});
  kernel_.now = 45 * kS;
  EXPECT_THAT(Spans(Seal()), ::testing::ElementsAre(S{33, 40, 1})) << "and goes on from there";
}

TEST_F(HistoryRecorderTest, TimesFromNowhereAreKeptInReach) {
  kernel_.now = 20 * kS;
  Deliver({0, UINT64_MAX, 18 * kS});
  uint64_t samples = 0;
  for (const HistoryBucket& bucket : Seal(true)) samples += bucket.samples();
  kernel_.now = 100 * kS;
  for (const HistoryBucket& bucket : Seal(true)) samples += bucket.samples();
  EXPECT_EQ(samples, 3u);
}

TEST_F(HistoryRecorderTest, EventsAreApartAndNamed) {
  kernel_.now = 20 * kS;
  Sample sample = MakeSample(16 * kS, stack_, thread_);
  recorder_.Deliver({&sample, 1});
  sample.event = 1;
  sample.weight = 5;
  recorder_.Deliver({&sample, 1});
  recorder_.Deliver({&sample, 1});
  const std::vector<HistoryBucket> buckets = Seal(true);
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].event, "cycles");
  EXPECT_EQ(buckets[0].session_owner, 3u);
  EXPECT_EQ(buckets[1].unit, "ns");
  EXPECT_EQ(buckets[1].entries.at(0).weight, 10u);
  EXPECT_EQ(buckets[1].entries.at(0).samples, 2u);
}

TEST_F(HistoryRecorderTest, AsksForAProcessOnceABucketWithItsFirstSample) {
  kernel_.now = 20 * kS;
  Deliver({17 * kS, 16 * kS, 18 * kS});
  EXPECT_EQ(woken_, 1);
  EXPECT_THAT(recorder_.TakeNewProcesses(), ::testing::ElementsAre(10));
  EXPECT_TRUE(recorder_.TakeNewProcesses().empty());
  const std::vector<HistoryBucket> buckets = Seal(true);
  EXPECT_THAT(asked_, ::testing::ElementsAre(std::pair(10, 17 * kS)));
  EXPECT_EQ(buckets.at(0).entries.at(0).process->owner, 7u);
}

TEST_F(HistoryRecorderTest, TellsOnceWhatWasLostAndWhatItCouldNotTake) {
  kernel_.now = 20 * kS;
  lost_ = 5;
  for (uint32_t i = 0; i < 40'000; ++i) {
    const Sample sample = MakeSample(16 * kS, NumberedStack(i, 1), thread_);
    recorder_.Deliver({&sample, 1});
  }
  uint64_t samples = 0;
  uint64_t dropped = 0;
  for (const HistoryBucket& bucket : Seal(true)) {
    samples += bucket.samples();
    dropped += bucket.dropped;
  }
  EXPECT_GT(samples, 10'000u);
  EXPECT_EQ(samples + dropped, 40'005u);
  kernel_.now = 30 * kS;
  EXPECT_EQ(Seal(true).back().dropped, 0u);
  Deliver({29 * kS});
  kernel_.now = 31 * kS;
  EXPECT_EQ(Seal(true).front().samples(), 1u) << "there is room again";
}

TEST_F(HistoryRecorderTest, TakesNothingBeforeItsBeginningAndAfterItsEnd) {
  HistoryRecorder idle(&kernel_, "s", 0, {{"cycles", "cycles"}}, 10 * kS, [] {});
  const Sample sample = MakeSample(16 * kS, stack_, thread_);
  idle.Deliver({&sample, 1});
  EXPECT_TRUE(idle.Seal(true, 0, nullptr).empty());
  lost_ = 2;
  recorder_.End();
  lost_ = 100;  // not asked any more
  recorder_.Deliver({&sample, 1});
  kernel_.now = 20 * kS;
  EXPECT_TRUE(Seal(true).empty()) << "it ended as it began";
}

}  // namespace
}  // namespace lbrd::daemon
