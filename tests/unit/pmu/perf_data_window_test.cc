// Recordings with copies of stacks, which are looked at where they stand in the file.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "perf_data_content.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kStackBytes = 16'384;

PerfDataBytes WithStacks() {
  PerfDataBytes recording;
  perf_event_attr& attr = recording.events[0].attr;
  attr.sample_type |= PERF_SAMPLE_STACK_USER;
  attr.sample_stack_user = kStackBytes;
  return recording;
}

// Its stack says which one it is, in each of its words; 0 bytes: it has none.
RecordBytes StackSample(uint64_t number, uint64_t bytes) {
  RecordBytes record = TestSample(1000 + number, number);
  record.U64(bytes);
  for (uint64_t i = 0; i < bytes / 8; ++i) record.U64(number);
  if (bytes != 0) record.U64(bytes);
  return record;
}

// Of the sample that was read.
void ExpectStack(const PerfData& data, const RawRecord& raw, uint64_t number, uint64_t bytes) {
  const absl::StatusOr<Record> record = DecodeRaw(raw, data.events()[raw.event].format);
  ASSERT_TRUE(record.ok()) << number << record.status();
  const auto& sample = std::get<SampleRecord>(*record);
  ASSERT_EQ(sample.ip, number);
  ASSERT_EQ(sample.user_stack.size(), bytes) << number;
  const auto* words = reinterpret_cast<const uint64_t*>(sample.user_stack.data());
  ASSERT_EQ(std::count(words, words + bytes / 8, number), static_cast<ptrdiff_t>(bytes / 8));
}

uint64_t BytesOf(uint64_t number) {
  constexpr uint64_t kSizes[] = {kStackBytes, 0, 4096, 8, 60'000, 1024};
  return kSizes[number % std::size(kSizes)];
}

class PerfDataWindow : public testing::TestWithParam<bool> {
 protected:
  ByteVector Bytes(const PerfDataBytes& recording) const {
    return GetParam() ? recording.Pipe() : recording.File();
  }
};

// A chunk of 128 KiB is less than four of the largest.
constexpr PerfDataOptions kSmallChunks{.max_pending_bytes = 1 << 20};

TEST_P(PerfDataWindow, GivesEachSampleItsStack) {
  constexpr uint64_t kSamples = 2000;
  PerfDataBytes recording = WithStacks();
  for (uint64_t i = 0; i < kSamples; ++i) {
    recording.Add(StackSample(i, BytesOf(i)));
    if (i % 10 == 0) recording.Add(TestComm(1000 + i, "name"));
    if (i % 7 == 0) recording.Add(kPerfFinishedRound);
    if (i % 100 == 0) {  // data that is no record, sometimes larger than a window
      const size_t trace_bytes = i % 300 == 0 ? 300'000 : 24;
      RecordBytes auxtrace(kPerfAuxtrace, 0);
      recording.Add(auxtrace.U64(trace_bytes).U64s({0, 0}).U32(0).U32(0).U32(0).U32(0));
      recording.data.resize(recording.data.size() + trace_bytes, std::byte{0x5a});
    }
  }
  const std::unique_ptr<PerfData> data = OpenBytes(Bytes(recording), kSmallChunks);
  ASSERT_NE(data, nullptr);
  uint64_t next = 0;
  size_t apart = 0;
  RawRecord raw;
  for (;;) {
    const absl::StatusOr<ReadResult> read = data->Next(&raw);
    ASSERT_TRUE(read.ok()) << read.status();
    if (*read == ReadResult::kEnd) break;
    if (raw.header->type != PERF_RECORD_SAMPLE) continue;
    ExpectStack(*data, raw, next, BytesOf(next));
    if (HasFatalFailure()) return;
    if (raw.stack.begin != nullptr) ++apart;
    ++next;
  }
  EXPECT_EQ(next, kSamples);
  EXPECT_GT(apart, kSamples / 2) << "large stacks stay where they are";
  EXPECT_EQ(data->stats().undecodable, 0u);
  EXPECT_EQ(data->bytes_read(), data->bytes_total());
  EXPECT_TRUE(data->Intact().ok()) << data->Intact();
}

TEST_P(PerfDataWindow, WhatIsKeptStaysUntilItIsLetGo) {
  constexpr uint64_t kSamples = 4000;
  PerfDataBytes recording = WithStacks();
  for (uint64_t i = 0; i < kSamples; ++i) {
    recording.Add(StackSample(i, kStackBytes));
    if (i % 7 == 0) recording.Add(kPerfFinishedRound);
  }
  const std::unique_ptr<PerfData> data = OpenBytes(Bytes(recording), kSmallChunks);
  ASSERT_NE(data, nullptr);
  struct Held {
    RawRecord raw;
    KeptRecord kept;
  };
  std::vector<Held> held;
  size_t refused = 0;
  for (uint64_t i = 0; i < kSamples; ++i) {
    RawRecord raw;
    const absl::StatusOr<ReadResult> read = data->Next(&raw);
    ASSERT_TRUE(read.ok() && *read == ReadResult::kRecord) << read.status();
    const std::optional<KeptRecord> kept = data->Keep();
    if (kept.has_value()) {
      held.push_back({raw, *kept});
      continue;
    }
    ++refused;
    for (const Held& one : held) {
      ExpectStack(*data, one.raw, one.raw.who.time - 1000, kStackBytes);
      if (HasFatalFailure()) return;
      data->LetGo(one.kept);
    }
    held.clear();
  }
  EXPECT_GT(refused, 5u);
}

TEST_P(PerfDataWindow, OddSizesLoseNothing) {
  // Copied to the next multiple of 8, these take more than the window that they stand in: the last
  // window too, for some of these lengths.
  for (int odds = 30'000; odds < 40'000; odds += 1000) {
    PerfDataBytes recording = WithStacks();
    uint64_t samples = 0;
    for (int i = 0; i < odds; ++i) {
      RecordBytes odd(kPerfFinishedInit, 0);
      recording.Add(odd.U32(0));
      if (i % 10'007 != 0) continue;
      recording.Add(StackSample(samples, BytesOf(samples)));
      ++samples;
    }
    const Content content = ReadBytes(Bytes(recording), kSmallChunks);
    EXPECT_TRUE(content.end.ok()) << odds << content.end;
    ASSERT_EQ(content.ips.size(), samples);
    for (uint64_t i = 0; i < samples; ++i) ASSERT_EQ(content.ips[i], i);
    EXPECT_EQ(content.undecodable, 0u);
  }
}

TEST_P(PerfDataWindow, CompressedOnesAreReadToo) {
  PerfDataBytes recording = WithStacks();
  PerfCompressor compressor;
  for (uint64_t i = 0; i < 400; ++i) {
    recording.Add(compressor.Record(StackSample(i, BytesOf(i)).bytes(), /*padded=*/i % 2 == 0));
  }
  const std::unique_ptr<PerfData> data = OpenBytes(Bytes(recording), kSmallChunks);
  ASSERT_NE(data, nullptr);
  RawRecord raw;
  for (uint64_t i = 0; i < 400; ++i) {
    const absl::StatusOr<ReadResult> read = data->Next(&raw);
    ASSERT_TRUE(read.ok() && *read == ReadResult::kRecord) << i << read.status();
    ExpectStack(*data, raw, i, BytesOf(i));
    if (HasFatalFailure()) return;
  }
}

TEST_P(PerfDataWindow, MalformedLargeSamplesAreCounted) {
  PerfDataBytes recording = WithStacks();
  recording.Add(StackSample(0, kStackBytes));
  RecordBytes lying = TestSample(1001, 1);
  lying.U64(kStackBytes);  // of which there is a half
  for (uint64_t i = 0; i < kStackBytes / 16; ++i) lying.U64(1);
  recording.Add(lying);
  recording.Add(StackSample(2, kStackBytes));
  const Content content = ReadBytes(Bytes(recording));
  EXPECT_TRUE(content.end.ok()) << content.end;
  EXPECT_EQ(content.undecodable, 1u);
  EXPECT_EQ(content.ips, (std::vector<uint64_t>{0, 2}));
}

TEST_P(PerfDataWindow, AFileThatBecomesShorterIsAnErrorNotACrash) {
  constexpr uint64_t kSamples = 1000;
  PerfDataBytes recording = WithStacks();
  for (uint64_t i = 0; i < kSamples; ++i) {
    recording.Add(StackSample(i, kStackBytes));
    recording.Add(kPerfFinishedRound);
  }
  const ByteVector bytes = Bytes(recording);
  for (const bool all_read : {false, true}) {
    const std::string path = WriteTemporary(bytes);
    absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(path, kSmallChunks);
    ASSERT_TRUE(data.ok()) << data.status();
    RawRecord raw;
    std::optional<KeptRecord> kept;
    for (uint64_t i = 0; i < (all_read ? kSamples : 10); ++i) {
      if (kept.has_value()) (*data)->LetGo(*kept);
      const absl::StatusOr<ReadResult> read = (*data)->Next(&raw);
      ASSERT_TRUE(read.ok() && *read == ReadResult::kRecord) << read.status();
      kept = (*data)->Keep();
      ASSERT_TRUE(kept.has_value());
    }
    EXPECT_TRUE((*data)->Intact().ok());
    // In the middle of a page: the rest of that is zeros then, without a signal.
    ASSERT_EQ(truncate(path.c_str(), all_read ? static_cast<off_t>(bytes.size() - 100) : 1001), 0);
    EXPECT_EQ((*data)->Intact().code(), absl::StatusCode::kDataLoss);
    const auto record = DecodeRaw(raw, (*data)->events()[raw.event].format);
    ASSERT_TRUE(record.ok()) << "the record itself was copied";
    const auto& stack = std::get<SampleRecord>(*record).user_stack;
    EXPECT_NE(std::find(stack.begin(), stack.end(), std::byte{0}), stack.end());
    const Content rest = ReadAll(**data);
    if (!all_read) {
      EXPECT_EQ(rest.end.code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(rest.end.message(), HasSubstr("became shorter while it was read"));
    }
    unlink(path.c_str());
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, PerfDataWindow, testing::Bool(), [](const auto& mode) {
  return std::string(mode.param ? "Pipe" : "File");
});

}  // namespace
}  // namespace lbrd::pmu
