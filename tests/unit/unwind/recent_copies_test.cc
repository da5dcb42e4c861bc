#include "unwind/recent_copies.h"

#include <asm/perf_regs.h>
#include <gtest/gtest.h>
#include <linux/perf_event.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "stepped_samples.h"
#include "unwind/rule_tables.h"

namespace lbrd::unwind {
namespace {

constexpr Verdict kComplete{StackState::kComplete, StackReason::kNone};

class RecentCopiesTest : public testing::Test {
 protected:
  RecentCopiesTest() {
    trace_.whole = true;
    trace_.registers = {{PERF_REG_X86_BP, 30}};
    trace_.words = {{8, 0}, {64, 0}};
  }
  const RecentCopies::Unwound* Find(int32_t tid = 7, uint64_t generation = 3) {
    const pmu::Registers registers{.abi = PERF_SAMPLE_REGS_ABI_64,
                                   .mask = (1u << PERF_REG_X86_AX) | (1u << PERF_REG_X86_BP) |
                                           (1u << PERF_REG_X86_SP) | (1u << PERF_REG_X86_IP),
                                   .values = values_};
    return copies_.Find(tid, generation, registers, std::as_bytes(std::span(stack_)));
  }
  // Shows the copy until it is kept: once to be noticed, and again to be traced.
  void Keep() {
    ASSERT_EQ(Find(), nullptr);
    ASSERT_FALSE(copies_.wants());
    ASSERT_EQ(Find(), nullptr);
    ASSERT_TRUE(copies_.wants());
    copies_.Put(trace_, frames_, kComplete);
    ASSERT_NE(Find(), nullptr);
  }

  RecentCopies copies_;
  std::vector<uint64_t> values_ = {10, 30, 40, 50};  // AX, BP, SP, IP
  std::vector<uint64_t> stack_ = std::vector<uint64_t>(32);
  std::vector<UnwoundFrame> frames_ = {{.ip = 0x10}, {.ip = 0x20, .exact = true}};
  WalkTrace trace_;
};

TEST_F(RecentCopiesTest, FindsAnEqualStack) {
  Keep();
  const RecentCopies::Unwound* found = Find();
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->frames, frames_);
  EXPECT_EQ(found->verdict, kComplete);
  EXPECT_EQ(copies_.found(), 2u);
}

TEST_F(RecentCopiesTest, WhatDecidedNothingMayDiffer) {
  Keep();
  values_[0] = 11;
  stack_[2] = 1;
  EXPECT_NE(Find(), nullptr);
}

TEST_F(RecentCopiesTest, EachWordThatDecidedCounts) {
  for (const size_t word : {1u, 8u}) {
    copies_ = RecentCopies();
    Keep();
    stack_[word] = uint64_t{1} << 63;
    EXPECT_EQ(Find(), nullptr) << word;
    stack_[word] = 0;
  }
}

TEST_F(RecentCopiesTest, EachRegisterThatDecidedCounts) {
  for (const size_t value : {1u, 2u, 3u}) {
    copies_ = RecentCopies();
    Keep();
    ++values_[value];
    EXPECT_EQ(Find(), nullptr) << value;
    --values_[value];
  }
}

TEST_F(RecentCopiesTest, TheCopysSizeCounts) {
  // It may say "the copy ended".
  Keep();
  stack_.pop_back();
  EXPECT_EQ(Find(), nullptr);
  EXPECT_FALSE(copies_.wants());
}

TEST_F(RecentCopiesTest, MappingsAndThreadsCount) {
  Keep();
  EXPECT_EQ(Find(7, 4), nullptr);
  Keep();
  EXPECT_EQ(Find(8), nullptr);
  EXPECT_NE(Find(7), nullptr);
}

TEST_F(RecentCopiesTest, AWalkThatWasNotTracedIsNotKept) {
  Find();
  Find();
  ASSERT_TRUE(copies_.wants());
  trace_.whole = false;
  copies_.Put(trace_, frames_, kComplete);
  EXPECT_EQ(Find(), nullptr);
  EXPECT_FALSE(copies_.wants());
}

TEST_F(RecentCopiesTest, WhatNeverHitsIsTriedEverMoreSeldom) {
  int kept = 0;
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_EQ(Find(), nullptr);
    if (!copies_.wants()) continue;
    copies_.Put(trace_, frames_, kComplete);
    ++kept;
    stack_[1] = 1;  // another one each time that it was kept
    ASSERT_EQ(Find(), nullptr);
    stack_[1] = 0;
  }
  EXPECT_GT(kept, 10'000 / 100);
  EXPECT_LT(kept, 10'000 / 50);
}

TEST_F(RecentCopiesTest, StaysWithinItsBound) {
  // 1 MiB each and some frames, so that the eighth does not fit.
  trace_.words.assign((size_t{1} << 20) / sizeof(WalkTrace::Word), {8, 0});
  const auto keep = [&](int32_t tid) {
    Find(tid);
    Find(tid);
    ASSERT_TRUE(copies_.wants());
    copies_.Put(trace_, frames_, kComplete);
  };
  for (int32_t tid = 1; tid <= 7; ++tid) keep(tid);
  for (int32_t tid = 1; tid <= 7; ++tid) EXPECT_NE(Find(tid), nullptr);
  keep(8);
  for (int32_t tid = 1; tid <= 8; ++tid) EXPECT_EQ(Find(tid), nullptr);
}

[[gnu::noinline]] int Recurse(int depth, const std::function<void()>& leaf) {
  volatile int room[7] = {depth};
  if (depth == 0) {
    leaf();
  } else {
    room[1] = Recurse(depth - 1, leaf);
  }
  return room[0] + room[1];
}

// Of this program, instruction by instruction: whatever is found is what the copy is unwound to,
// with any single word of it changed.
TEST(RecentCopiesOnThisProgramTest, FindsOnlyWhatWouldBeUnwound) {
  if (!SteppedSamples::kMayStep) GTEST_SKIP() << "sanitizers' code may not be stepped through";
  SteppedSamples recorded;
  recorded.Record([&] { Recurse(6, [] { std::string(100, 'x').append("y"); }); }, /*every=*/7,
                  /*max_samples=*/60, /*max_stack=*/4096);
  ASSERT_GT(recorded.samples().size(), 10u);
  LiveFiles files;
  BinaryCache binaries(&files);
  const AddressSpace space = LiveSpace(&binaries);
  FastUnwinder unwinder(binaries.rule_tables());
  size_t found = 0;
  size_t whole = 0;
  int32_t tid = 0;
  for (const SteppedSamples::Sample& sample : recorded.samples()) {
    std::vector<std::byte> stack(sample.stack.begin(), sample.stack.end());
    std::vector<UnwoundFrame> frames;
    WalkTrace trace;
    const std::optional<Verdict> verdict =
        unwinder.UnwindTraced(space, sample.registers(), stack, &frames, &trace);
    ASSERT_TRUE(verdict.has_value());
    if (!trace.whole) continue;
    ++whole;
    RecentCopies copies;
    ++tid;
    const auto find = [&] {
      return copies.Find(tid, space.generation(), sample.registers(), stack);
    };
    find();
    find();
    ASSERT_TRUE(copies.wants());
    copies.Put(trace, frames, *verdict);
    ASSERT_NE(find(), nullptr);
    for (size_t word = 0; word + 8 <= stack.size(); word += 8) {
      stack[word + 1] ^= std::byte{0x10};
      if (const RecentCopies::Unwound* same = find(); same != nullptr) {
        ++found;
        std::vector<UnwoundFrame> anew;
        EXPECT_EQ(unwinder.Unwind(space, sample.registers(), stack, &anew), same->verdict);
        EXPECT_EQ(anew, same->frames);
      } else {
        copies = RecentCopies();
        stack[word + 1] ^= std::byte{0x10};
        find();
        find();
        copies.Put(trace, frames, *verdict);
        continue;
      }
      stack[word + 1] ^= std::byte{0x10};
    }
  }
  // Most words of a stack are no return addresses.
  EXPECT_GT(whole, 5u);
  EXPECT_GT(found, 10 * whole);
}

}  // namespace
}  // namespace lbrd::unwind
