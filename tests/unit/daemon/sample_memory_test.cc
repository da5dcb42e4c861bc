#include "daemon/sample_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "../pmu/fake_kernel.h"
#include "daemon/history_recorder.h"
#include "daemon/profile_table.h"
#include "daemon/resumable_stream.h"
#include "daemon/sample_stream.h"
#include "daemon/stack_intern.h"
#include "made_samples.h"
#include "unwind/process_table.h"

namespace lbrd::daemon {
namespace {

// `left` more than what is taken already; none afterwards.
class SampleMemoryTest : public ::testing::Test {
 protected:
  ~SampleMemoryTest() override { memory_.set_limit(SIZE_MAX); }
  void LeaveOnly(size_t left) { memory_.set_limit(memory_.bytes() + left); }

  SampleMemory& memory_ = SampleMemory::OfProcess();
  const size_t before_ = memory_.bytes();
};

unwind::ResolvedStack StackOf(uint64_t first, size_t depth) {
  unwind::ResolvedStack stack;
  for (size_t i = 0; i < depth; ++i) {
    stack.frames.push_back({.ip = first + i, .source = unwind::FrameSource::kSampledIp});
  }
  stack.has_user = true;
  return stack;
}

TEST_F(SampleMemoryTest, AChargeIsHeldOnceWhereverItGoes) {
  {
    MemoryCharge one(1000);
    EXPECT_EQ(memory_.bytes(), before_ + 1000);
    MemoryCharge moved(std::move(one));
    EXPECT_EQ(memory_.bytes(), before_ + 1000);
    MemoryCharge other(10);
    other = std::move(moved);
    EXPECT_EQ(other.bytes(), 1000u);
    other.Resize(400);
    EXPECT_EQ(memory_.bytes(), before_ + 410) << "the other's went with what was moved from";
  }
  EXPECT_EQ(memory_.bytes(), before_);
}

TEST_F(SampleMemoryTest, AQuarterIsLeftToAdmins) {
  memory_.set_limit(1 << 20);
  MemoryCharge charge((1 << 20) * 3 / 4 - memory_.bytes());
  EXPECT_EQ(memory_.left(MemoryShare::kThreeQuarters), 0u);
  EXPECT_EQ(memory_.left(MemoryShare::kWhole), (1u << 20) / 4);
  charge.Resize(2 << 20);
  EXPECT_EQ(memory_.left(MemoryShare::kWhole), 0u) << "what is over leaves nothing";
}

TEST_F(SampleMemoryTest, AStackCountsOnceHoweverManyHoldIt) {
  const unwind::Process process;
  auto intern = std::make_unique<StackIntern>(KernelNameSource());
  std::shared_ptr<const StackInfo> held = intern->Intern(StackOf(0x1000, 20), process);
  const size_t one = memory_.bytes() - before_;
  EXPECT_GE(one, 20 * sizeof(FrameInfo));
  std::vector<std::shared_ptr<const StackInfo>> many(100, held);
  many.push_back(intern->Intern(StackOf(0x1000, 20), process));
  EXPECT_EQ(memory_.bytes() - before_, one);
  intern.reset();
  many.clear();
  EXPECT_EQ(memory_.bytes() - before_, one) << "somebody holds it";
  held.reset();
  EXPECT_EQ(memory_.bytes(), before_);
}

TEST_F(SampleMemoryTest, WhatOnlyTheTablesHoldGoesWhenItIsShort) {
  const unwind::Process process;
  StackIntern intern{KernelNameSource()};
  uint64_t address = 0x1000;
  const auto fill = [&](size_t bytes) {
    const size_t one = 64 * sizeof(FrameInfo);
    for (size_t made = 0; made < bytes; made += one, address += 64) {
      intern.Intern(StackOf(address, 64), process);
    }
  };
  fill(StackIntern::kLeastBytes);
  const std::shared_ptr<const StackInfo> held = intern.Intern(StackOf(0x1000, 64), process);
  EXPECT_EQ(intern.resets(), 0u);
  LeaveOnly(0);
  fill(4096);
  EXPECT_EQ(intern.resets(), 1u);
  EXPECT_LT(memory_.bytes() - before_, size_t{1} << 20);
  EXPECT_EQ(held->frames.size(), 64u);
  LeaveOnly(0);
  fill(StackIntern::kLeastBytes / 2);
  EXPECT_EQ(intern.resets(), 1u) << "a few are kept in any case";
}

TEST_F(SampleMemoryTest, AProfileTakesNoMoreThanIsLeftForAll) {
  ProfileTable mine;
  ProfileTable others;
  others.set_share(MemoryShare::kThreeQuarters);
  Sample sample = MakeSample(1);
  constexpr size_t kEntries = 64000;
  memory_.set_limit(std::max<size_t>(4 * memory_.bytes(), kEntries * ProfileTable::kEntryBytes));
  const auto fill = [&](ProfileTable& table) {
    for (sample.event = 0; table.Add({&sample, 1}) == 0;) ++sample.event;
  };
  fill(others);
  EXPECT_EQ(memory_.left(MemoryShare::kThreeQuarters) / ProfileTable::kEntryBytes, 0u);
  fill(mine);
  EXPECT_GE(mine.entries().size(), kEntries / 4 - 1) << "a quarter";
  EXPECT_LE(memory_.bytes(), memory_.limit());
  sample.event = 0;
  EXPECT_EQ(mine.Add({&sample, 1}), 0u) << "what has an entry goes on";
}

TEST_F(SampleMemoryTest, EachProfileAndHistoryTakesTheLeastHoweverFullItIs) {
  const Sample one = MakeSample(1);
  const size_t least = ProfileTable::kLeastBytes / ProfileTable::EntryBytes(*one.stack);
  LeaveOnly(0);
  ProfileTable table;
  Sample sample = one;
  for (sample.event = 0; table.Add({&sample, 1}) == 0;) ++sample.event;
  EXPECT_EQ(table.entries().size(), least);

  pmu::FakeKernel kernel;
  kernel.now = 15'000'000'000;
  HistoryRecorder recorder(&kernel, "s", 0, std::vector<RecordedEvent>(2 * least), 1'000'000'000,
                           [] {});
  recorder.Begin([] { return 0; });
  for (sample.event = 0; sample.event < 2 * least; ++sample.event) recorder.Deliver({&sample, 1});
  uint64_t samples = 0;
  uint64_t dropped = 0;
  const auto nobody = [](int32_t, uint64_t) { return nullptr; };
  for (const HistoryBucket& bucket : recorder.Seal(/*all=*/true, 0, nobody)) {
    samples += bucket.samples();
    dropped += bucket.dropped;
  }
  EXPECT_EQ(samples, least);
  EXPECT_EQ(dropped, least);
}

TEST_F(SampleMemoryTest, AStreamThatKeepsUpLosesNothingWhenItIsFull) {
  const Sample sample = MakeSample(1);
  const std::vector<Sample> samples(SampleStream::kBatchSamples, sample);
  SampleStream keeps_up(/*patient=*/false);
  SampleStream stopped(/*patient=*/false);
  LeaveOnly(3 * samples.size() * sizeof(Sample));
  std::vector<Sample> popped;
  for (int i = 0; i < 8; ++i) {
    stopped.Push(samples);
    keeps_up.Push(samples);
    ASSERT_TRUE(keeps_up.Pop(absl::ZeroDuration(), &popped));
  }
  EXPECT_EQ(keeps_up.dropped(), 0u);
  EXPECT_GE(stopped.dropped(), 4 * samples.size());
  EXPECT_LE(stopped.dropped(), 6 * samples.size());
  stopped.Cancel();
  EXPECT_EQ(memory_.bytes(), before_);
}

TEST_F(SampleMemoryTest, LittleIsKeptToBeSentAgainWhenItIsFull) {
  const std::vector<Sample> samples(SampleStream::kBatchSamples, MakeSample(1));
  const auto source = std::make_shared<SampleStream>(/*patient=*/false);
  ResumableStream stream("s", source);
  const StreamMessage* message = nullptr;
  const auto send = [&] {
    source->Push(samples);
    ASSERT_TRUE(stream.Next(absl::ZeroDuration(), &message));
  };
  for (int i = 0; i < 4; ++i) send();
  EXPECT_GE(memory_.bytes() - before_, 4 * samples.size() * sizeof(Sample));
  LeaveOnly(0);
  send();
  EXPECT_LE(memory_.bytes() - before_, samples.size() * sizeof(Sample))
      << "only what is on its way";
}

}  // namespace
}  // namespace lbrd::daemon
