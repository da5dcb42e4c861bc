#include "daemon/resumable_stream.h"

#include <gtest/gtest.h>

namespace lbrd::daemon {
namespace {

class ResumableStreamTest : public ::testing::Test {
 protected:
  // Pushes samples that are told apart by their times.
  void Push(size_t count) {
    std::vector<Sample> samples(count);
    for (Sample& sample : samples) sample.time_ns = ++pushed_;
    source_->Push(samples);
  }
  StreamMessage Next() {
    const StreamMessage* message = nullptr;
    EXPECT_TRUE(stream_.Next(absl::ZeroDuration(), &message));
    return *message;
  }

  std::shared_ptr<SampleStream> source_ = std::make_shared<SampleStream>(/*patient=*/false);
  ResumableStream stream_{"name", source_};
  uint64_t pushed_ = 0;
};

TEST_F(ResumableStreamTest, NumbersMessagesAndSamples) {
  Push(3);
  EXPECT_EQ(Next().sequence, 1u);
  Push(2);
  const StreamMessage second = Next();
  EXPECT_EQ(second.sequence, 2u);
  EXPECT_EQ(second.samples_before, 3u);
  EXPECT_EQ(second.samples.size(), 2u);
  EXPECT_TRUE(Next().samples.empty()) << "nothing came: nothing is to be sent";
  EXPECT_EQ(stream_.Last().sequence, 3u);
  EXPECT_EQ(stream_.Last().samples_before, 5u);
}

TEST_F(ResumableStreamTest, SendsAgainWhatDidNotArrive) {
  for (int i = 0; i < 4; ++i) {
    Push(10);
    Next();
  }
  stream_.Rewind(2, 20);
  EXPECT_EQ(stream_.missing(), 0u);
  Push(5);
  for (const uint64_t sequence : {3u, 4u, 5u}) EXPECT_EQ(Next().sequence, sequence);
  stream_.Rewind(5, 45);
  EXPECT_TRUE(Next().samples.empty()) << "it has all";
  EXPECT_EQ(stream_.missing(), 0u);
}

TEST_F(ResumableStreamTest, AnotherBreakWhileSendingAgainLosesNothing) {
  for (int i = 0; i < 3; ++i) {
    Push(1);
    Next();
  }
  stream_.Rewind(0, 0);
  EXPECT_EQ(Next().sequence, 1u);
  stream_.Rewind(0, 0);
  for (const uint64_t sequence : {1u, 2u, 3u}) EXPECT_EQ(Next().sequence, sequence);
  EXPECT_EQ(stream_.missing(), 0u);
}

TEST_F(ResumableStreamTest, SaysHowManyAreNotKeptAnyMore) {
  uint64_t sent = 0;
  while (sent < 3 * ResumableStream::kMaxKeptSamples) {
    Push(SampleStream::kBatchSamples);
    sent += Next().samples.size();
  }
  stream_.Rewind(1, SampleStream::kBatchSamples);
  const StreamMessage again = Next();
  EXPECT_GT(again.sequence, 2u);
  EXPECT_EQ(stream_.missing(), again.samples_before - SampleStream::kBatchSamples);
  EXPECT_LE(sent - again.samples_before, ResumableStream::kMaxKeptSamples);
}

TEST_F(ResumableStreamTest, EndsAfterTheLast) {
  Push(1);
  source_->End();
  EXPECT_EQ(Next().sequence, 1u);
  const StreamMessage* message = nullptr;
  EXPECT_FALSE(stream_.Next(absl::ZeroDuration(), &message));
}

}  // namespace
}  // namespace lbrd::daemon
