#include "pmu/empty_stack.h"

#include <asm/perf_regs.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "wire_records.h"

namespace lbrd::pmu {
namespace {

RecordFormat Format(uint64_t more = 0) {
  RecordFormat format = WireSampleFormat();
  format.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER | more;
  format.sample_regs_user = 1 << PERF_REG_X86_SP;
  return format;
}

// A sample with room for `room` bytes of stack, of which so many hold something; then `tail`.
Words Sample(uint64_t room, uint64_t filled, const Words& tail = {}) {
  Words words = Wire({.pid = 7, .tid = 8, .time = 9});
  words.insert(words.end(), {PERF_SAMPLE_REGS_ABI_64, 0x7000, room});
  for (uint64_t at = 0; at < room / 8; ++at) words.push_back(at * 8 < filled ? 0x100 + at : 0xbad);
  if (room != 0) words.push_back(filled);
  words.insert(words.end(), tail.begin(), tail.end());
  words[0] = HeaderWord(PERF_RECORD_SAMPLE, 0, words.size() * 8);
  return words;
}

SampleRecord Decode(const Words& words, const RecordFormat& format) {
  const auto record = DecodeRecord(HeaderOf(words), format);
  EXPECT_TRUE(record.ok()) << record.status();
  return std::get<SampleRecord>(*record);
}

TEST(EmptyStack, WhatIsLeftIsTheSameSample) {
  const RecordFormat format = Format(PERF_SAMPLE_CGROUP);
  for (const uint64_t filled :
       {uint64_t{0}, uint64_t{1}, uint64_t{8}, uint64_t{4093}, uint64_t{8192}, uint64_t{15'000}}) {
    const Words whole = Sample(16'384, filled, /*tail=*/{4711});
    const auto empty = FindEmptyStack(HeaderOf(whole), format);
    ASSERT_TRUE(empty.has_value()) << filled;
    std::vector<uint64_t> words = {1, 2};
    AppendWithout(HeaderOf(whole), *empty, &words);
    const Words less(words.begin() + 2, words.end());
    EXPECT_EQ(HeaderOf(less)->size, less.size() * 8);
    EXPECT_EQ(less.size() * 8, whole.size() * 8 - empty->bytes);
    EXPECT_LT(less.size() * 8, filled + 256);
    const SampleRecord before = Decode(whole, format);
    const SampleRecord after = Decode(less, format);
    EXPECT_EQ(after.who.time, 9u);
    EXPECT_EQ(after.cgroup, 4711u) << "what follows the copy";
    EXPECT_EQ(after.user_regs.Get(PERF_REG_X86_SP), 0x7000u);
    ASSERT_EQ(after.user_stack.size(), filled);
    EXPECT_EQ(std::memcmp(after.user_stack.data(), before.user_stack.data(), filled), 0);
    EXPECT_GT(after.user_stack_asked, filled) << "a full copy may go on, this one does not";
  }
}

TEST(EmptyStack, IsNoneWhereTheCopyIsFullOrThereIsNone) {
  for (const uint64_t filled : {uint64_t{16'384}, uint64_t{16'376}, uint64_t{16'000}}) {
    EXPECT_FALSE(FindEmptyStack(HeaderOf(Sample(16'384, filled)), Format()).has_value()) << filled;
  }
  EXPECT_FALSE(FindEmptyStack(HeaderOf(Sample(0, 0)), Format()).has_value()) << "a kernel thread";
  const Words sample = Wire({.time = 1});
  EXPECT_FALSE(FindEmptyStack(HeaderOf(sample), WireSampleFormat()).has_value());
}

TEST(EmptyStack, IsNoneInWhatCannotBeRead) {
  // More is said to be there than the record has room for.
  Words sample = Sample(16'384, 100);
  sample[0] = HeaderWord(PERF_RECORD_SAMPLE, 0, 4096);
  EXPECT_FALSE(FindEmptyStack(HeaderOf(sample), Format()).has_value());
  // More is said to be filled than there is room: all of it is.
  EXPECT_FALSE(FindEmptyStack(HeaderOf(Sample(16'384, 1 << 20)), Format()).has_value());
}

}  // namespace
}  // namespace lbrd::pmu
