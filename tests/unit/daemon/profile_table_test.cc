#include "daemon/profile_table.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "made_samples.h"

namespace lbrd::daemon {
namespace {

using unwind::FrameSource;
using unwind::StackReason;
using unwind::StackState;
using unwind::Verdict;

// False: not taken.
bool Add(ProfileTable& table, const Sample& sample) { return table.Add({&sample, 1}) == 0; }

TEST(ProfileTable, SumsByStackThreadAndEvent) {
  ProfileTable table;
  const auto stack = MakeStack(1, {MakeFrame(1, "f")});
  const auto thread = MakeThread(1);
  Sample sample = MakeSample(1, stack, thread);
  sample.weight = 10;
  EXPECT_TRUE(Add(table, sample));
  sample.time_ns = 2;
  sample.cpu = 3;
  sample.weight = 5;
  EXPECT_TRUE(Add(table, sample));
  ASSERT_EQ(table.entries().size(), 1u);
  EXPECT_EQ(table.entries().begin()->second.samples, 2u);
  EXPECT_EQ(table.entries().begin()->second.weight, 15u);

  Sample other = sample;
  other.event = 1;
  EXPECT_TRUE(Add(table, other));
  other = sample;
  other.thread = MakeThread(2);
  EXPECT_TRUE(Add(table, other));
  other = sample;
  other.stack = MakeStack(2, {MakeFrame(2, "g")});
  EXPECT_TRUE(Add(table, other));
  EXPECT_EQ(table.entries().size(), 4u);
  EXPECT_EQ(table.samples(), 5u);
}

TEST(ProfileTable, AccountsForVerdicts) {
  ProfileTable table;
  const auto frames = {MakeFrame(1, "f")};
  Add(table, MakeSample(1, MakeStack(1, frames)));
  Add(table, MakeSample(2, MakeStack(2, frames, {StackState::kTruncated, StackReason::kLbrFull})));
  Add(table, MakeSample(3, MakeStack(3, frames, {StackState::kTruncated, StackReason::kLbrFull})));
  Add(table, MakeSample(4, MakeStack(4, frames, {}, /*has_user=*/false)));
  EXPECT_EQ(table.by_verdict(StackState::kComplete, StackReason::kNone), 1u);
  EXPECT_EQ(table.by_verdict(StackState::kTruncated, StackReason::kLbrFull), 2u);
  EXPECT_EQ(table.by_verdict(StackState::kUnknown, StackReason::kNone), 1u);
  EXPECT_EQ(table.user_samples(), 3u);
  EXPECT_EQ(table.user_samples_complete(), 1u);
}

TEST(ProfileTable, AccountsForTheSourceOfTheOldestUserFrame) {
  ProfileTable table;
  const auto kernel = MakeFrame(1, "k", nullptr, FrameSource::kKernel);
  const auto leaf = MakeFrame(2, "f", nullptr, FrameSource::kSampledIp);
  const auto lbr = MakeFrame(3, "g", nullptr, FrameSource::kLbr);
  Add(table, MakeSample(1, MakeStack(1, {kernel, leaf, lbr})));
  Add(table, MakeSample(2, MakeStack(2, {leaf})));
  // A task with a user mode of which nothing is known, and a kernel thread: no user frame at all.
  Add(table,
      MakeSample(3, MakeStack(3, {kernel}, {StackState::kUnknown, StackReason::kDeferredMissing})));
  Add(table, MakeSample(4, MakeStack(4, {kernel}, {}, /*has_user=*/false)));
  Add(table, MakeSample(5, MakeStack(5, {})));
  EXPECT_EQ(table.by_source(FrameSource::kLbr), 1u);
  EXPECT_EQ(table.by_source(FrameSource::kSampledIp), 1u);
  EXPECT_EQ(table.by_source(FrameSource::kKernel), 0u);
}

TEST(ProfileTable, TakesNoNewLineWhenFullButGoesOnWithTheOldOnes) {
  ProfileTable table(/*max_entries=*/100);
  Sample sample = MakeSample(1);
  for (uint32_t event = 0; event < 100; ++event) {
    sample.event = event;
    ASSERT_TRUE(Add(table, sample));
  }
  sample.event = 100;
  EXPECT_FALSE(Add(table, sample));
  EXPECT_EQ(table.samples(), 100u);
  sample.event = 0;
  EXPECT_TRUE(Add(table, sample));
  EXPECT_EQ(table.samples(), 101u);
  EXPECT_EQ(table.entries().size(), 100u);
}

TEST(ProfileTable, TakesNoNewLineBeyondItsBytes) {
  const auto deep = [](uint64_t id) {
    auto stack = std::make_shared<StackInfo>();
    stack->id = id;
    stack->frames.resize(100, std::make_shared<FrameInfo>());
    return stack;
  };
  const size_t one = ProfileTable::EntryBytes(*deep(0));
  EXPECT_GT(one, 100 * sizeof(void*));
  ProfileTable table(/*max_entries=*/1000, /*max_bytes=*/10 * one);
  const auto thread = std::make_shared<ThreadInfo>();
  std::vector<Sample> samples;
  for (uint64_t i = 0; i < 12; ++i) {
    samples.push_back({.weight = 1, .stack = deep(i), .thread = thread});
  }
  EXPECT_EQ(table.Add(samples), 2u);
  EXPECT_EQ(table.Add(std::span(samples).first(10)), 0u) << "what is there goes on";
  EXPECT_EQ(table.entries().size(), 10u);
}

TEST(ProfileTable, TakesABatchAndSaysHowManyItDidNotTake) {
  ProfileTable table(/*max_entries=*/20);
  const auto frame = MakeFrame(1, "f", nullptr, FrameSource::kSampledIp);
  std::vector<Sample> samples;
  for (uint32_t stack = 1; stack <= 30; ++stack) {
    samples.push_back(MakeSample(stack, MakeStack(stack, {frame})));
  }
  EXPECT_EQ(table.Add(samples), 10u);
  EXPECT_EQ(table.entries().size(), 20u);
  EXPECT_EQ(table.samples(), 20u);
  // Those that have an entry find it, one by one as in a batch.
  EXPECT_EQ(table.Add(std::span(samples).first(20)), 0u);
  for (const auto& [key, sum] : table.entries()) EXPECT_EQ(sum.samples, 2u);
}

}  // namespace
}  // namespace lbrd::daemon
