#include "daemon/profile_table.h"

#include <gtest/gtest.h>

#include "made_samples.h"

namespace lbrd::daemon {
namespace {

using unwind::FrameSource;
using unwind::StackReason;
using unwind::StackState;
using unwind::Verdict;

TEST(ProfileTable, SumsByStackThreadAndEvent) {
  ProfileTable table;
  const auto stack = MakeStack(1, {MakeFrame(1, "f")});
  const auto thread = MakeThread(1);
  Sample sample = MakeSample(1, stack, thread);
  sample.weight = 10;
  EXPECT_TRUE(table.Add(sample));
  sample.time_ns = 2;
  sample.cpu = 3;
  sample.weight = 5;
  EXPECT_TRUE(table.Add(sample));
  ASSERT_EQ(table.entries().size(), 1u);
  EXPECT_EQ(table.entries().begin()->second.samples, 2u);
  EXPECT_EQ(table.entries().begin()->second.weight, 15u);

  Sample other = sample;
  other.event = 1;
  EXPECT_TRUE(table.Add(other));
  other = sample;
  other.thread = MakeThread(2);
  EXPECT_TRUE(table.Add(other));
  other = sample;
  other.stack = MakeStack(2, {MakeFrame(2, "g")});
  EXPECT_TRUE(table.Add(other));
  EXPECT_EQ(table.entries().size(), 4u);
  EXPECT_EQ(table.samples(), 5u);
}

TEST(ProfileTable, AccountsForVerdicts) {
  ProfileTable table;
  const auto frames = {MakeFrame(1, "f")};
  table.Add(MakeSample(1, MakeStack(1, frames)));
  table.Add(MakeSample(2, MakeStack(2, frames, {StackState::kTruncated, StackReason::kLbrFull})));
  table.Add(MakeSample(3, MakeStack(3, frames, {StackState::kTruncated, StackReason::kLbrFull})));
  table.Add(MakeSample(4, MakeStack(4, frames, {}, /*has_user=*/false)));
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
  table.Add(MakeSample(1, MakeStack(1, {kernel, leaf, lbr})));
  table.Add(MakeSample(2, MakeStack(2, {leaf})));
  // A task with a user mode of which nothing is known, and a kernel thread: no user frame at all.
  table.Add(
      MakeSample(3, MakeStack(3, {kernel}, {StackState::kUnknown, StackReason::kDeferredMissing})));
  table.Add(MakeSample(4, MakeStack(4, {kernel}, {}, /*has_user=*/false)));
  table.Add(MakeSample(5, MakeStack(5, {})));
  EXPECT_EQ(table.by_source(FrameSource::kLbr), 1u);
  EXPECT_EQ(table.by_source(FrameSource::kSampledIp), 1u);
  EXPECT_EQ(table.by_source(FrameSource::kKernel), 0u);
}

TEST(ProfileTable, TakesNoNewLineWhenFullButGoesOnWithTheOldOnes) {
  ProfileTable table(/*max_entries=*/100);
  Sample sample = MakeSample(1);
  for (uint32_t event = 0; event < 100; ++event) {
    sample.event = event;
    ASSERT_TRUE(table.Add(sample));
  }
  sample.event = 100;
  EXPECT_FALSE(table.Add(sample));
  EXPECT_EQ(table.samples(), 100u);
  sample.event = 0;
  EXPECT_TRUE(table.Add(sample));
  EXPECT_EQ(table.samples(), 101u);
  EXPECT_EQ(table.entries().size(), 100u);
}

}  // namespace
}  // namespace lbrd::daemon
