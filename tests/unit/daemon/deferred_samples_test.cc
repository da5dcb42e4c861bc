#include "daemon/deferred_samples.h"

#include <gtest/gtest.h>

#include <vector>

namespace lbrd::daemon {
namespace {

PendingSample Waiting(int32_t tid, uint64_t cookie, uint64_t time) {
  PendingSample sample;
  sample.time_ns = time;
  sample.pid = sample.tid = tid;
  sample.stack.deferred = true;
  sample.stack.cookie = cookie;
  return sample;
}

std::vector<uint64_t> Times(const std::vector<PendingSample>& samples) {
  std::vector<uint64_t> times;
  for (const PendingSample& sample : samples) times.push_back(sample.time_ns);
  return times;
}
using T = std::vector<uint64_t>;

TEST(DeferredSamples, AnswersAllSamplesOfACookieOnce) {
  DeferredSamples deferred;
  deferred.Add(Waiting(7, 100, 1));
  deferred.Add(Waiting(7, 200, 2));
  deferred.Add(Waiting(7, 100, 3));
  EXPECT_EQ(deferred.size(), 3u);
  EXPECT_EQ(Times(deferred.Answer(7, 100, {})), (T{1, 3}));
  EXPECT_EQ(deferred.size(), 1u);
  EXPECT_TRUE(deferred.Answer(7, 100, {}).empty());
  EXPECT_EQ(Times(deferred.Answer(7, 200, {})), T{2});
  EXPECT_EQ(deferred.size(), 0u);
}

TEST(DeferredSamples, TellsTasksWithTheSameCookieApart) {
  DeferredSamples deferred;
  deferred.Add(Waiting(7, 100, 1));
  deferred.Add(Waiting(8, 100, 2));
  EXPECT_TRUE(deferred.Answer(9, 100, {}).empty());
  EXPECT_EQ(Times(deferred.Answer(8, 100, {})), T{2});
  EXPECT_EQ(Times(deferred.Answer(7, 100, {})), T{1});
}

TEST(DeferredSamples, RemembersTheLastAnswerOfEachTask) {
  DeferredSamples deferred;
  EXPECT_EQ(deferred.LastAnswer(7, 100), nullptr);
  const std::vector<uint64_t> first = {0xa, 0xb};
  const std::vector<uint64_t> second = {0xc};
  deferred.Answer(7, 100, first);
  deferred.Answer(8, 300, second);
  ASSERT_NE(deferred.LastAnswer(7, 100), nullptr);
  EXPECT_EQ(*deferred.LastAnswer(7, 100), first);
  EXPECT_EQ(deferred.LastAnswer(7, 300), nullptr);
  deferred.Answer(7, 200, second);
  EXPECT_EQ(deferred.LastAnswer(7, 100), nullptr);
  EXPECT_EQ(*deferred.LastAnswer(7, 200), second);
}

TEST(DeferredSamples, ForgetsAnswersBeyondItsCap) {
  DeferredSamples deferred;
  const auto cap = static_cast<int32_t>(DeferredSamples::kMaxAnswers);
  for (int32_t tid = 0; tid < cap; ++tid) deferred.Answer(tid, 1, {});
  EXPECT_NE(deferred.LastAnswer(0, 1), nullptr);
  deferred.Answer(0, 2, {});  // known: nothing is forgotten
  EXPECT_NE(deferred.LastAnswer(cap - 1, 1), nullptr);
  deferred.Answer(cap, 1, {});
  EXPECT_EQ(deferred.LastAnswer(0, 2), nullptr);
  EXPECT_NE(deferred.LastAnswer(cap, 1), nullptr);
}

TEST(DeferredSamples, GivesUpOnWhatWaitsTooLongOldestFirst) {
  DeferredSamples deferred;
  const uint64_t timeout = DeferredSamples::kTimeoutNs;
  deferred.Add(Waiting(7, 1, 10));
  deferred.Add(Waiting(8, 2, 20));
  deferred.Add(Waiting(9, 3, 30));
  EXPECT_TRUE(deferred.Expire(9 + timeout).empty());
  EXPECT_EQ(Times(deferred.Expire(20 + timeout)), (T{10, 20}));
  EXPECT_EQ(deferred.size(), 1u);
  EXPECT_TRUE(deferred.Answer(7, 1, {}).empty());  // too late
  EXPECT_EQ(Times(deferred.Answer(9, 3, {})), T{30});
}

TEST(DeferredSamples, WaitsForSamplesFromTheFuture) {
  DeferredSamples deferred;  // late records: now may stand before a sample's own time
  deferred.Add(Waiting(7, 1, 1000));
  EXPECT_TRUE(deferred.Expire(5).empty());
  EXPECT_EQ(deferred.size(), 1u);
}

TEST(DeferredSamples, GivesEverythingUpAtTheEnd) {
  DeferredSamples deferred;
  for (uint64_t i = 0; i < 5; ++i) deferred.Add(Waiting(7, i, i));
  EXPECT_EQ(Times(deferred.Expire(UINT64_MAX)), (T{0, 1, 2, 3, 4}));
  EXPECT_EQ(deferred.size(), 0u);
}

TEST(DeferredSamples, KeepsNoMoreThanItsCap) {
  DeferredSamples deferred;
  for (uint64_t i = 0; i < DeferredSamples::kMaxPending + 3; ++i) deferred.Add(Waiting(7, i, i));
  EXPECT_EQ(Times(deferred.Expire(0)), (T{0, 1, 2}));
  EXPECT_EQ(deferred.size(), DeferredSamples::kMaxPending);
}

}  // namespace
}  // namespace lbrd::daemon
