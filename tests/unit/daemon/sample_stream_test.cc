#include "daemon/sample_stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/time/clock.h"
#include "made_samples.h"

namespace lbrd::daemon {
namespace {

// Samples numbered by their time.
std::vector<Sample> Samples(uint64_t first, size_t count) {
  static const auto* const stack = new std::shared_ptr<const StackInfo>(MakeStack(1, {}));
  static const auto* const thread = new std::shared_ptr<const ThreadInfo>(MakeThread(1));
  std::vector<Sample> samples;
  for (size_t i = 0; i < count; ++i) samples.push_back(MakeSample(first + i, *stack, *thread));
  return samples;
}

// All that can be had now, which must be numbered on from *next.
size_t TakeAll(SampleStream* stream, uint64_t* next) {
  size_t taken = 0;
  std::vector<Sample> samples;
  while (stream->Pop(absl::ZeroDuration(), &samples) && !samples.empty()) {
    EXPECT_LE(samples.size(), SampleStream::kBatchSamples);
    taken += samples.size();
    for (const Sample& sample : samples) EXPECT_EQ(sample.time_ns, (*next)++);
  }
  return taken;
}

TEST(SampleStream, GivesSamplesInOrderInBatches) {
  SampleStream stream(/*patient=*/false);
  stream.Push(Samples(0, 3));
  stream.Push(Samples(3, 3 * SampleStream::kBatchSamples));
  uint64_t next = 0;
  EXPECT_EQ(TakeAll(&stream, &next), 3 + 3 * SampleStream::kBatchSamples);
  EXPECT_EQ(stream.dropped(), 0u);
}

TEST(SampleStream, GivesWhatThereIsWhenTheDelayIsOver) {
  SampleStream stream(/*patient=*/false);
  std::vector<Sample> samples = Samples(0, 1);
  EXPECT_TRUE(stream.Pop(absl::Milliseconds(1), &samples));
  EXPECT_TRUE(samples.empty());
  stream.Push(Samples(0, 2));
  EXPECT_TRUE(stream.Pop(absl::Milliseconds(1), &samples));
  EXPECT_EQ(samples.size(), 2u);
}

TEST(SampleStream, AFullBatchWaitsForNoDelay) {
  SampleStream stream(/*patient=*/false);
  stream.Push(Samples(0, SampleStream::kBatchSamples));
  std::vector<Sample> samples;
  EXPECT_TRUE(stream.Pop(absl::InfiniteDuration(), &samples));
  EXPECT_EQ(samples.size(), SampleStream::kBatchSamples);
}

TEST(SampleStream, DropsTheNewestAndCountsEveryOne) {
  SampleStream stream(/*patient=*/false);
  stream.Push(Samples(0, SampleStream::kMaxSamples - 10));
  stream.Push(Samples(SampleStream::kMaxSamples - 10, 25));
  EXPECT_EQ(stream.dropped(), 15u);
  stream.Push(Samples(7, 5));
  EXPECT_EQ(stream.dropped(), 20u);
  uint64_t next = 0;
  EXPECT_EQ(TakeAll(&stream, &next), SampleStream::kMaxSamples);
  stream.Push(Samples(next, 1));  // there is room again
  EXPECT_EQ(TakeAll(&stream, &next), 1u);
  EXPECT_EQ(stream.dropped(), 20u);
}

TEST(SampleStream, IsOverWhenAllIsTaken) {
  SampleStream stream(/*patient=*/false);
  stream.Push(Samples(0, 1));
  stream.End();
  std::vector<Sample> samples;
  EXPECT_TRUE(stream.Pop(absl::InfiniteDuration(), &samples));
  EXPECT_EQ(samples.size(), 1u);
  EXPECT_FALSE(stream.Pop(absl::InfiniteDuration(), &samples));
  EXPECT_TRUE(samples.empty());
}

TEST(SampleStream, MakesThePusherOfAPatientSourceWait) {
  SampleStream stream(/*patient=*/true);
  stream.Push(Samples(0, SampleStream::kMaxSamples));
  std::atomic<bool> pushed = false;
  std::thread pusher([&] {
    stream.Push(Samples(SampleStream::kMaxSamples, 300));
    pushed = true;
    stream.End();
  });
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_FALSE(pushed);
  uint64_t next = 0;
  std::vector<Sample> samples;
  while (stream.Pop(absl::InfiniteDuration(), &samples)) {
    for (const Sample& sample : samples) ASSERT_EQ(sample.time_ns, next++);
  }
  pusher.join();
  EXPECT_EQ(next, SampleStream::kMaxSamples + 300);
  EXPECT_EQ(stream.dropped(), 0u);
}

TEST(SampleStream, CancelWakesThePusher) {
  SampleStream stream(/*patient=*/true);
  stream.Push(Samples(0, SampleStream::kMaxSamples));
  std::thread pusher([&] { stream.Push(Samples(0, 1)); });
  absl::SleepFor(absl::Milliseconds(20));
  stream.Cancel();
  pusher.join();
}

TEST(SampleStream, CancelWakesThePopper) {
  SampleStream stream(/*patient=*/false);
  std::thread popper([&] {
    std::vector<Sample> samples;
    EXPECT_FALSE(stream.Pop(absl::InfiniteDuration(), &samples));
  });
  stream.Cancel();
  popper.join();
}

TEST(SampleStream, KeepsNothingOnceCancelled) {
  const auto stack = MakeStack(1, {});
  SampleStream stream(/*patient=*/false);
  const std::vector<Sample> samples = {MakeSample(1, stack)};
  stream.Push(samples);
  stream.Cancel();
  stream.Push(samples);
  EXPECT_EQ(stack.use_count(), 2);  // here, and in `samples`
  std::vector<Sample> taken;
  EXPECT_FALSE(stream.Pop(absl::ZeroDuration(), &taken));
  EXPECT_TRUE(taken.empty());
}

TEST(SampleStream, BranchesTakeRoom) {
  SampleStream stream(/*patient=*/false);
  std::vector<Sample> samples = Samples(0, SampleStream::kMaxSamples);
  const auto branches = std::make_shared<Branches>(32);
  for (Sample& sample : samples) sample.branches = branches;
  const size_t room = RoomOf(samples[0]);
  ASSERT_GE(room * sizeof(Sample), sizeof(Sample) + 32 * sizeof(BranchInfo));
  stream.Push(samples);
  EXPECT_EQ(samples.size() - stream.dropped(), SampleStream::kMaxSamples / room);
  std::vector<Sample> taken;
  size_t all = 0;
  while (stream.Pop(absl::ZeroDuration(), &taken) && !taken.empty()) {
    EXPECT_LE(taken.size(), SampleStream::kBatchSamples / room);
    all += taken.size();
  }
  EXPECT_EQ(all, SampleStream::kMaxSamples / room);
  // It is all free again.
  stream.Push(samples);
  EXPECT_EQ(2 * (samples.size() - all), stream.dropped());
}

}  // namespace
}  // namespace lbrd::daemon
