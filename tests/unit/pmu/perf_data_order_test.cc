#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "perf_data_content.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;

TEST(PerfDataOrder, IsByTimeWithinRounds) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 1));
  recording.Add(TestSample(30, 3));
  recording.Add(TestSample(20, 2));  // another ring
  recording.Add(kPerfFinishedRound);
  recording.Add(TestSample(25, 25));
  recording.Add(TestSample(40, 4));
  recording.Add(kPerfFinishedRound);
  for (const ByteVector& bytes : {recording.File(), recording.Pipe()}) {
    const std::unique_ptr<PerfData> data = OpenBytes(bytes);
    const Content content = ReadAll(*data);
    EXPECT_TRUE(content.end.ok());
    EXPECT_THAT(content.ips, ElementsAre(1, 2, 25, 3, 4));
    EXPECT_EQ(data->stats().samples, 5u);
    EXPECT_EQ(data->stats().late_records, 0u);
    EXPECT_EQ(data->bytes_read(), data->bytes_total());
  }
}

TEST(PerfDataOrder, CountsWhatComesTooLate) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 1));
  recording.Add(kPerfFinishedRound);
  recording.Add(TestSample(20, 2));
  recording.Add(kPerfFinishedRound);
  recording.Add(TestSample(5, 5));
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  EXPECT_THAT(ReadAll(*data).ips, ElementsAre(1, 5, 2));
  EXPECT_EQ(data->stats().late_records, 1u);
}

TEST(PerfDataOrder, RecordsWithoutATimeComeWhenTheyAreRead) {
  PerfDataBytes recording;
  recording.Add(TestComm(0, "first"));
  recording.Add(TestSample(20, 2));
  recording.Add(TestSample(10, 1));
  recording.Add(TestComm(0, "second"));
  for (const ByteVector& bytes : {recording.File(), recording.Pipe()}) {
    const Content content = ReadBytes(bytes);
    EXPECT_THAT(content.comms, ElementsAre("first", "second"));
    EXPECT_THAT(content.times, ElementsAre(0, 0, 10, 20));
  }
}

TEST(PerfDataOrder, WithoutAnyTimesIsTheFiles) {
  PerfDataBytes recording;
  recording.events[0].attr.sample_type = PERF_SAMPLE_IP;
  recording.events[0].attr.sample_id_all = 0;
  for (const uint64_t ip : {5, 3, 4}) {
    RecordBytes sample(PERF_RECORD_SAMPLE, 0);
    recording.Add(sample.U64(ip));
    recording.Add(kPerfFinishedRound);
  }
  EXPECT_THAT(ReadBytes(recording.File()).ips, ElementsAre(5, 3, 4));
  // And there is nothing to wait for.
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  RawRecord raw;
  ASSERT_TRUE(data->Next(&raw).ok());
  EXPECT_EQ(data->bytes_read(), 0u) << "of the first record at most";
}

TEST(PerfDataOrder, KeptRecordsStayUntilTheyAreLetGo) {
  // Many times what may be kept, so that each place is used again and again.
  PerfDataBytes recording;
  constexpr uint64_t kSamples = 400'000;
  for (uint64_t i = 0; i < kSamples; ++i) {
    recording.Add(TestSample(1000 + i, i));
    if (i % 1000 == 999) recording.Add(kPerfFinishedRound);
  }
  const std::unique_ptr<PerfData> data =
      OpenBytes(recording.File(), {.max_pending_bytes = 1 << 20});
  struct Held {
    const perf_event_header* header;
    KeptRecord kept;
    uint64_t ip;
  };
  std::vector<Held> held;
  size_t refused = 0;
  RawRecord raw;
  const auto ip_of = [&](const perf_event_header* header) {
    return std::get<SampleRecord>(*DecodeRecord(header, data->events()[0].format)).ip;
  };
  for (uint64_t i = 0; i < kSamples; ++i) {
    const absl::StatusOr<ReadResult> read = data->Next(&raw);
    ASSERT_TRUE(read.ok() && *read == ReadResult::kRecord);
    ASSERT_EQ(raw.who.time, 1000 + i) << "what is kept does not change the order";
    if (i % 3 != 0) continue;
    const std::optional<KeptRecord> kept = data->Keep();
    if (kept.has_value()) {
      held.push_back({raw.header, *kept, ip_of(raw.header)});
      continue;
    }
    ++refused;
    for (const Held& one : held) {
      ASSERT_EQ(ip_of(one.header), one.ip);
      data->LetGo(one.kept);
    }
    held.clear();
  }
  EXPECT_GT(refused, 1u) << "what is kept is bounded";
  EXPECT_LT(refused, 100u);
  EXPECT_EQ(data->stats().late_records, 0u);
}

TEST(PerfDataOrder, MemoryIsBoundedAndTheOldestGoFirst) {
  // No rounds: nothing could go before the end. 40 MiB of samples through 4 MiB.
  PerfDataBytes recording;
  constexpr uint64_t kSamples = 800'000;
  for (uint64_t i = 0; i < kSamples; ++i) recording.Add(TestSample(1000 + (i ^ 1), i));
  recording.Add(TestSample(1, 7));
  const std::unique_ptr<PerfData> data =
      OpenBytes(recording.File(), {.max_pending_bytes = uint64_t{4} << 20});
  RawRecord raw;
  const absl::StatusOr<ReadResult> result = data->Next(&raw);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(raw.who.time, 1000u);
  EXPECT_LT(data->bytes_read(), uint64_t{8} << 20);
  const Content content = ReadAll(*data);
  EXPECT_EQ(content.times.size(), kSamples);
  EXPECT_EQ(data->stats().late_records, 1u) << "only what lay further back than the limit";
}

RecordBytes Lost(uint64_t count, uint64_t time) {
  RecordBytes record(PERF_RECORD_LOST, 0);
  PutTestTrailer(record.U64(1).U64(count), time);
  return record;
}
RecordBytes LostSamples(uint64_t count, uint64_t time, uint64_t id, uint16_t misc = 0) {
  RecordBytes record(PERF_RECORD_LOST_SAMPLES, misc);
  PutTestTrailer(record.U64(count), time, id);
  return record;
}

TEST(PerfDataStats, LossIsCountedOnce) {
  PerfDataBytes recording;
  recording.events = {{TestAttr(), {1}}, {TestAttr(PERF_COUNT_SW_DUMMY), {2}}};
  recording.Add(Lost(60, 10));
  recording.Add(Lost(40, 20));
  recording.Add(LostSamples(5, 30, 1));  // a PMU driver's
  const std::unique_ptr<PerfData> before_final = OpenBytes(recording.File());
  ReadAll(*before_final);
  EXPECT_EQ(before_final->stats().lost_samples, 105u);

  recording.Add(LostSamples(90, 0, 1));  // perf's final counts
  recording.Add(LostSamples(30, 0, 2));
  recording.Add(LostSamples(1000, 0, 1, kMiscLostSamplesBpf));  // on purpose
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  ReadAll(*data);
  EXPECT_EQ(data->stats().lost_samples, 95u);
  EXPECT_EQ(data->stats().lost_other, 30u);
  EXPECT_EQ(data->stats().other_records, 6u);
}

TEST(PerfDataStats, Throttling) {
  PerfDataBytes recording;
  RecordBytes throttle(PERF_RECORD_THROTTLE, 0);
  PutTestTrailer(throttle.U64s({10, 1, 1}), 10);
  recording.Add(throttle);
  RecordBytes unthrottle(PERF_RECORD_UNTHROTTLE, 0);
  PutTestTrailer(unthrottle.U64s({20, 1, 1}), 20);
  recording.Add(unthrottle);
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  ReadAll(*data);
  EXPECT_EQ(data->stats().throttled, 1u);
}

TEST(PerfDataFlow, FinishEndsIt) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 1));
  recording.Add(TestSample(20, 2));
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  EXPECT_TRUE(data->patient());
  EXPECT_FALSE(data->target_gone());
  RawRecord raw;
  EXPECT_EQ(*data->Next(&raw), ReadResult::kRecord);
  data->Finish();
  EXPECT_EQ(*data->Next(&raw), ReadResult::kEnd);
}

}  // namespace
}  // namespace lbrd::pmu
