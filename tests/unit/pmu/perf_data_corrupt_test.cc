#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "perf_data_content.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PerfDataCompressed, IsOneStreamOverManyRecords) {
  ByteVector records;
  std::vector<uint64_t> expected;
  for (uint64_t i = 1; i <= 500; ++i) {
    Append(records, TestSample(i, i * 3).bytes());
    expected.push_back(i * 3);
  }
  for (const bool padded : {false, true}) {
    PerfDataBytes recording;
    PerfCompressor compressor;
    // Pieces that cut records in two, and leave what follows at odd addresses.
    for (size_t at = 0; at < records.size(); at += 1001) {
      const size_t end = std::min(records.size(), at + 1001);
      recording.Add(
          compressor.Record(ByteVector(records.begin() + at, records.begin() + end), padded));
      recording.Add(kPerfFinishedRound);
    }
    for (const ByteVector& bytes : {recording.File(), recording.Pipe()}) {
      const std::unique_ptr<PerfData> data = OpenBytes(bytes);
      const Content content = ReadAll(*data);
      EXPECT_TRUE(content.end.ok()) << content.end;
      EXPECT_EQ(content.ips, expected);
      EXPECT_TRUE(data->info().compressed);
    }
  }
}

TEST(PerfDataCompressed, PlainRecordsMayStandAtOddAddresses) {
  PerfDataBytes recording;
  PerfCompressor compressor;
  for (uint64_t i = 1; i < 200; i += 2) {
    recording.Add(compressor.Record(TestSample(i, i).bytes()));
    recording.Add(TestSample(i + 1, i + 1));
  }
  EXPECT_EQ(ReadBytes(recording.File()).ips.size(), 200u);
}

TEST(PerfDataCompressed, IsDecodedInBoundedMemory) {
  // 64 MiB that compress to next to nothing.
  PerfDataBytes recording;
  PerfCompressor compressor;
  ByteVector piece;
  for (uint64_t i = 0; i < 25'000; ++i) Append(piece, TestSample(1, 1).bytes());
  for (int i = 0; i < 64; ++i) {
    recording.Add(compressor.Record(piece));
    recording.Add(kPerfFinishedRound);
  }
  const Content content = ReadBytes(recording.File(), {.max_pending_bytes = uint64_t{1} << 20});
  EXPECT_EQ(content.ips.size(), 64u * 25'000);
}

TEST(PerfDataCompressed, CorruptionEndsItAfterWhatWasGood) {
  PerfCompressor compressor;
  PerfDataBytes garbage;
  garbage.Add(compressor.Record(TestSample(1, 1).bytes()));
  RecordBytes bad(kPerfCompressed, 0);
  garbage.Add(bad.Bytes("certainly not zstd at all"));
  PerfCompressor other;
  PerfDataBytes nested;
  nested.Add(other.Record(TestSample(1, 1).bytes()));
  nested.Add(other.Record(RecordBytes(kPerfCompressed, 0).bytes()));
  PerfCompressor third;
  PerfDataBytes ends_early;
  ByteVector half = TestSample(2, 2).bytes();
  half.resize(half.size() / 2);
  ends_early.Add(third.Record(TestSample(1, 1).bytes()));
  ends_early.Add(third.Record(half));
  for (const PerfDataBytes* recording : {&garbage, &nested, &ends_early}) {
    const Content content = ReadBytes(recording->File());
    EXPECT_THAT(content.ips, ElementsAre(1));
    EXPECT_EQ(content.end.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(content.end.message(), HasSubstr("at offset "));
  }
}

TEST(PerfDataCorrupt, ATruncatedFileGivesWhatItHasThenTheOffset) {
  PerfDataBytes recording;
  recording.Add(TestSample(20, 2));
  recording.Add(TestSample(10, 1));
  recording.Add(TestSample(30, 3));
  ByteVector file = recording.File();
  const size_t third_at = file.size() - TestSample(30, 3).size();
  file.resize(file.size() - 4);
  const Content content = ReadBytes(file);
  EXPECT_THAT(content.ips, ElementsAre(1, 2));
  EXPECT_EQ(content.end.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(content.end.message(), HasSubstr(absl::StrCat("at offset ", third_at)));
}

TEST(PerfDataCorrupt, ARecordWithoutASizeEndsIt) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 1));
  recording.data.resize(recording.data.size() + 64);
  const Content content = ReadBytes(recording.File());
  EXPECT_THAT(content.ips, ElementsAre(1));
  EXPECT_EQ(content.end.code(), absl::StatusCode::kDataLoss);
}

TEST(PerfDataCorrupt, MalformedRecordsAreCountedAndLeftOut) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 1));
  recording.Add(RecordBytes(PERF_RECORD_SAMPLE, 0));
  recording.Add(RecordBytes(PERF_RECORD_COMM, 0));
  recording.Add(RecordBytes(0, 0));
  recording.Add(RecordBytes(4711, 0));  // perf's, but of a later version
  recording.Add(TestSample(20, 2));
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  EXPECT_THAT(ReadAll(*data).ips, ElementsAre(1, 2));
  EXPECT_EQ(data->stats().undecodable, 3u);
}

TEST(PerfDataCorrupt, AnInterruptedRecordingIsReadToItsEnd) {
  PerfDataBytes recording;
  recording.interrupted = true;
  recording.Add(TestSample(10, 1));
  recording.Add(TestSample(20, 2));
  ByteVector file = recording.File();
  EXPECT_THAT(ReadBytes(file).ips, ElementsAre(1, 2));
  file.resize(file.size() - 4);
  const std::unique_ptr<PerfData> data = OpenBytes(file);
  EXPECT_THAT(data->info().notes, ElementsAre(HasSubstr("perf was killed")));
  const Content content = ReadAll(*data);
  EXPECT_TRUE(content.end.ok());
  EXPECT_THAT(content.ips, ElementsAre(1));
  EXPECT_THAT(data->info().notes,
              ElementsAre(HasSubstr("perf was killed"), HasSubstr("not whole")));
}

}  // namespace
}  // namespace lbrd::pmu
