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

  std::vector<uint64_t> words_ = std::vector<uint64_t>(kJournalBytes / 8);
  SessionJournal journal_{std::as_writable_bytes(std::span(words_))};
  std::shared_ptr<SampleStream> source_ = std::make_shared<SampleStream>(/*patient=*/false);
  ResumableStream stream_{std::string(32, 'a'), source_};
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

// The stream as the next engine has it, from what this one left in the journal.
class ResumableStreamInTheNextEngineTest : public ResumableStreamTest {
 protected:
  ResumableStreamInTheNextEngineTest() {
    stream_.KeepIn(journal_.AddStream(), /*id=*/9, /*now_ns=*/1);
  }
  std::unique_ptr<ResumableStream> Next(uint64_t now_ns) {
    const auto left = SessionJournal(std::as_writable_bytes(std::span(words_))).LeftStreams();
    EXPECT_EQ(left.size(), 1u);
    auto next = std::make_unique<ResumableStream>(
        std::string(left[0].point.name, StreamPoint::kNameBytes), source_);
    next->GoOn(left[0].point, "it died", now_ns);
    return next;
  }
};

TEST_F(ResumableStreamInTheNextEngineTest, GoesOnBehindWhatWasSent) {
  for (int i = 0; i < 3; ++i) {
    Push(10);
    ResumableStreamTest::Next();
  }
  const auto next = Next(/*now_ns=*/1000);
  EXPECT_EQ(next->name(), stream_.name());
  // The third message did not arrive.
  next->Rewind(2, 20, /*last_ns=*/20);
  Push(5);
  const StreamMessage* message = nullptr;
  ASSERT_TRUE(next->Next(absl::ZeroDuration(), &message));
  EXPECT_EQ(message->sequence, 4u);
  EXPECT_EQ(message->samples_before, 30u);
  ASSERT_TRUE(message->gap.has_value());
  EXPECT_EQ(message->gap->not_received, 10u);
  EXPECT_EQ(message->gap->from_ns, 20u) << "it has all of before";
  EXPECT_EQ(message->gap->to_ns, 1000u);
  EXPECT_EQ(next->missing(), 0u) << "the gap tells of them";
  // Sent again with its gap, and the next one without.
  next->Rewind(3, 30, 30);
  ASSERT_TRUE(next->Next(absl::ZeroDuration(), &message));
  EXPECT_TRUE(message->gap.has_value());
  Push(1);
  ASSERT_TRUE(next->Next(absl::ZeroDuration(), &message));
  EXPECT_EQ(message->sequence, 5u);
  EXPECT_FALSE(message->gap.has_value());
  EXPECT_FALSE(next->Last().gap.has_value());
}

TEST_F(ResumableStreamInTheNextEngineTest, TellsTheGapInTheLastMessageIfThereIsNoOther) {
  Push(10);
  ResumableStreamTest::Next();
  const auto next = Next(1000);
  next->Rewind(1, 10);
  EXPECT_EQ(next->Last().sequence, 2u);
  ASSERT_TRUE(next->Last().gap.has_value());
  EXPECT_EQ(next->Last().gap->from_ns, 10u) << "the client did not say; that was the last sent";
  EXPECT_EQ(next->Last().gap->not_received, 0u);
}

TEST_F(ResumableStreamInTheNextEngineTest, AClientThatHasNothingLacksAllSinceTheBeginning) {
  Push(10);
  ResumableStreamTest::Next();
  const auto next = Next(1000);
  next->Rewind(0, 0);
  EXPECT_EQ(next->Last().gap->from_ns, 1u);
  EXPECT_EQ(next->Last().gap->not_received, 10u);
}

TEST_F(ResumableStreamInTheNextEngineTest, CountsDropsOn) {
  Push(SampleStream::kMaxSamples + 7);
  ResumableStreamTest::Next();
  EXPECT_EQ(stream_.dropped(), 7u);
  source_ = std::make_shared<SampleStream>(/*patient=*/false);
  EXPECT_EQ(Next(1000)->dropped(), 7u);
}

}  // namespace
}  // namespace lbrd::daemon
