#include "pmu/split_sample.h"

#include <asm/perf_regs.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "wire_records.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kRoom = 16'384;

RecordFormat Format(uint64_t more = 0) {
  RecordFormat format = WireSampleFormat();
  format.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER | more;
  format.sample_regs_user = 1 << PERF_REG_X86_SP;
  format.branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX;
  return format;
}

// A sample of `before`, registers, `room` bytes of stack of which so many hold something, `tail`.
Words Sample(uint64_t room, uint64_t filled, const Words& before = {}, const Words& tail = {}) {
  Words words = Wire({.pid = 7, .tid = 8, .time = 9});
  words.insert(words.end(), before.begin(), before.end());
  words.insert(words.end(), {PERF_SAMPLE_REGS_ABI_64, 0x7000, room});
  for (uint64_t at = 0; at < room / 8; ++at) words.push_back(at * 8 < filled ? 0x100 + at : 0xbad);
  if (room != 0) words.push_back(filled);
  words.insert(words.end(), tail.begin(), tail.end());
  words[0] = HeaderWord(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, words.size() * 8);
  return words;
}

std::optional<SplitSample> SplitWords(const Words& whole, const RecordFormat& format, Words* less) {
  less->assign(whole.size(), 0xfeed);
  const auto fields = std::as_bytes(std::span(whole)).subspan(sizeof(perf_event_header));
  return Split(*HeaderOf(whole), fields, format, reinterpret_cast<std::byte*>(less->data()));
}

TEST(SplitSample, BothPartsAreTheSameSample) {
  const RecordFormat format = Format(PERF_SAMPLE_CGROUP | PERF_SAMPLE_BRANCH_STACK);
  const Words branches = {2, 17, 0x10, 0x20, 0, 0x30, 0x40, 0};  // with the hardware's index
  for (const uint64_t filled : {uint64_t{0}, uint64_t{1}, uint64_t{8000}, kRoom}) {
    const Words whole = Sample(kRoom, filled, branches, /*tail=*/{4711});
    Words less;
    const std::optional<SplitSample> split = SplitWords(whole, format, &less);
    ASSERT_TRUE(split.has_value()) << filled;
    EXPECT_EQ(HeaderOf(less)->size, split->record_bytes);
    EXPECT_EQ(split->record_bytes, whole.size() * 8 - kRoom - 8) << "nothing of it is left";
    EXPECT_EQ(less[split->record_bytes / 8], 0xfeed) << "nothing is written behind it";

    const auto before = DecodeRecord(HeaderOf(whole), format);
    const auto after = DecodeSplit(HeaderOf(less), split->stack, format);
    ASSERT_TRUE(before.ok() && after.ok()) << after.status();
    const auto& one = std::get<SampleRecord>(*before);
    const auto& other = std::get<SampleRecord>(*after);
    EXPECT_EQ(other.who.time, 9u);
    EXPECT_EQ(other.cpumode, PERF_RECORD_MISC_USER);
    EXPECT_EQ(other.cgroup, 4711u) << "what follows the copy";
    EXPECT_EQ(other.user_regs.Get(PERF_REG_X86_SP), 0x7000u);
    ASSERT_EQ(other.branch_stack.branches.size(), 2u);
    EXPECT_EQ(other.branch_stack.branches[1].from, 0x30u);
    EXPECT_EQ(other.branch_stack.hw_index, 17u);
    EXPECT_EQ(other.user_stack_asked, kRoom);
    EXPECT_EQ(other.user_stack.data(), one.user_stack.data()) << "where it stood";
    EXPECT_EQ(other.user_stack.size(), filled);
  }
}

TEST(SplitSample, AloneTheRecordIsOneWithoutAStack) {
  Words less;
  ASSERT_TRUE(SplitWords(Sample(kRoom, 512), Format(), &less).has_value());
  const auto record = DecodeRecord(HeaderOf(less), Format());
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(std::get<SampleRecord>(*record).user_stack.empty());
  EXPECT_EQ(std::get<SampleRecord>(*record).user_stack_asked, 0u);
}

TEST(SplitSample, MoreCopiedThanAskedIsWhatWasAsked) {
  Words less;
  const auto split = SplitWords(Sample(kRoom, UINT64_MAX), Format(), &less);
  ASSERT_TRUE(split.has_value());
  EXPECT_EQ(split->stack.bytes, kRoom);
}

TEST(SplitSample, WhatHasNoStackOrIsMalformedStaysWhole) {
  Words less;
  EXPECT_FALSE(SplitWords(Sample(0, 0), Format(), &less).has_value()) << "a kernel thread";
  EXPECT_FALSE(SplitWords(Sample(kRoom, 8), WireSampleFormat(), &less).has_value())
      << "an event without copies";
  Words lying = Sample(kRoom, 8);
  lying[lying.size() - kRoom / 8 - 2] = kRoom + 8;  // its size, beyond the record
  EXPECT_FALSE(SplitWords(lying, Format(), &less).has_value());
  for (uint64_t asked = kRoom - 7; asked < kRoom; ++asked) {
    lying[lying.size() - kRoom / 8 - 2] = asked;
    EXPECT_FALSE(SplitWords(lying, Format(), &less).has_value()) << asked << ": no whole words";
  }
  EXPECT_EQ(less, Words(less.size(), 0xfeed)) << "nothing is written";
}

}  // namespace
}  // namespace lbrd::pmu
