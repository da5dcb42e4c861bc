#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "perf_data_content.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(PerfDataOpen, SaysWhatIsWrongWithAFile) {
  const absl::Status missing = PerfData::Open("/nonexistent/perf.data").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.message(), HasSubstr("/nonexistent/perf.data"));

  EXPECT_EQ(OpenError({}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(OpenError({}).message(), HasSubstr("is empty"));
  EXPECT_EQ(OpenError(Text("hello")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(OpenError(Text("A file of text, long enough for a header.")).message(),
              HasSubstr("is not a perf.data file"));
  EXPECT_EQ(OpenError(Text("PERFFILE........")).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(OpenError(Text("2ELIFREP........")).code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(OpenError(Text("2ELIFREP........")).message(), HasSubstr("byte order"));

  const absl::Status directory = PerfData::Open(testing::TempDir()).status();
  EXPECT_EQ(directory.code(), absl::StatusCode::kUnimplemented);
}

TEST(PerfDataOpen, RefusesAHeaderThatIsCutOff) {
  PerfDataBytes recording;
  recording.Add(TestSample(1, 1));
  const ByteVector file = recording.File();
  const size_t header_bytes = file.size() - recording.data.size();
  for (size_t size = 8; size < header_bytes; ++size) {
    const absl::Status status = OpenError(ByteVector(file.begin(), file.begin() + size));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_THAT(status.message(), HasSubstr("not a whole perf.data file"));
  }
}

TEST(PerfDataOpen, RefusesADirectoryRecordingsHeader) {
  PerfDataBytes recording;
  recording.features = {{kFeatureDirFormat, ByteVector(8)}};
  recording.Add(TestSample(1, 1));
  EXPECT_EQ(OpenError(recording.File()).code(), absl::StatusCode::kUnimplemented);
}

TEST(PerfDataOpen, RefusesARecordingWithoutEvents) {
  PerfDataBytes recording;
  recording.events.clear();
  recording.Add(TestSample(1, 1));
  EXPECT_EQ(OpenError(recording.File()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenError(recording.Pipe()).code(), absl::StatusCode::kInvalidArgument);
}

TEST(PerfDataOpen, RefusesLayoutsThatCannotBeToldApart) {
  PerfDataBytes recording;
  perf_event_attr other = TestAttr();
  other.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TIME;
  recording.events.push_back({other, {2}});
  EXPECT_THAT(OpenError(recording.File()).message(), HasSubstr("different layouts"));
}

TEST(PerfDataEvents, AreToldApartByTheirIds) {
  PerfDataBytes recording;
  perf_event_attr with_cpu = TestAttr(PERF_COUNT_SW_TASK_CLOCK);
  with_cpu.sample_type |= PERF_SAMPLE_CPU;
  recording.events = {{TestAttr(), {1, 2}}, {with_cpu, {3}}};
  RecordBytes other = TestSample(20, 20, 3);
  recording.Add(other.U32(5).U32(0));
  recording.Add(TestSample(10, 10, 2));
  recording.Add(TestSample(30, 30, 99));  // nobody's
  recording.Add(TestSample(40, 40, 0));   // perf's own: the first event's
  // The first event's layout is not this one's: a wrong event would misread the pid.
  RecordBytes comm(PERF_RECORD_COMM, 0);
  comm.U32(7).U32(8).Text("comm").U32(7).U32(8).U64(50).U32(5).U32(0).U64(3);
  recording.Add(comm);
  for (const ByteVector& bytes : {recording.File(), recording.Pipe()}) {
    const std::unique_ptr<PerfData> data = OpenBytes(bytes);
    const Content content = ReadAll(*data);
    EXPECT_THAT(content.ips, ElementsAre(10, 20, 40));
    EXPECT_THAT(content.events, ElementsAre(0, 1, 0));
    EXPECT_THAT(content.times, ElementsAre(10, 20, 40, 50));
    EXPECT_THAT(content.comms, ElementsAre("comm"));
    EXPECT_EQ(content.undecodable, 0u);
    EXPECT_EQ(data->stats().undecodable, 1u);
    EXPECT_EQ(data->events()[0].name, "cpu-clock");
    EXPECT_EQ(data->events()[1].name, "task-clock");
  }
}

TEST(PerfDataEvents, IdsMayStandBehindOtherFields) {
  PerfDataBytes recording;
  perf_event_attr attr = TestAttr();
  attr.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID |
                     PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD;
  recording.events = {{attr, {1}}, {attr, {2}}};
  recording.events[1].attr.sample_type |= PERF_SAMPLE_ADDR;
  EXPECT_FALSE(OpenError(recording.File()).ok()) << "the address moves the id";
  recording.events[1].attr.sample_type = attr.sample_type | PERF_SAMPLE_CALLCHAIN;
  RecordBytes sample(PERF_RECORD_SAMPLE, 0);
  recording.Add(sample.U64(0x10).U32(7).U32(8).U64(5).U64(2).U32(0).U32(0).U64(1).U64(0));
  RecordBytes comm(PERF_RECORD_COMM, 0);
  recording.Add(comm.U32(7).U32(8).Text("c").U32(7).U32(8).U64(6).U64(2).U32(0).U32(0));
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  RawRecord raw;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(data->Next(&raw).ok());
    EXPECT_EQ(raw.event, 1u);
  }
}

TEST(PerfDataEvents, AttrsOfNewerKernelsAreRead) {
  PerfDataBytes recording;
  recording.events[0].extra_attr_bytes = 24;
  recording.Add(TestSample(10, 10));
  EXPECT_THAT(ReadBytes(recording.File()).ips, ElementsAre(10));
}

TEST(PerfDataEvents, AttrsOfOldKernelsAreRead) {
  PerfDataBytes recording;
  recording.events[0].attr.size = PERF_ATTR_SIZE_VER0;
  recording.events[0].attr.branch_sample_type = ~uint64_t{0};  // not part of it
  recording.Add(TestSample(10, 10));
  const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
  EXPECT_EQ(data->events()[0].format.branch_sample_type, 0u);
  EXPECT_THAT(ReadAll(*data).ips, ElementsAre(10));
}

TEST(PerfDataInfo, IsReadFromFeatures) {
  PerfDataBytes recording;
  recording.features = TestFeatures();
  recording.Add(TestSample(1, 1));
  for (const ByteVector& bytes : {recording.File(), recording.Pipe()}) {
    const std::unique_ptr<PerfData> data = OpenBytes(bytes);
    const PerfDataInfo& info = data->info();
    EXPECT_EQ(info.hostname, "box");
    EXPECT_EQ(info.os_release, "6.19");
    EXPECT_EQ(info.perf_version, "6.1");
    EXPECT_EQ(info.arch, "x86_64");
    EXPECT_EQ(info.cpus_online, 12u);
    EXPECT_EQ(info.command_line, "perf record -b");
    EXPECT_EQ(info.lbr_depth, 32u);
    EXPECT_EQ(data->events()[0].name, "my-event:u");
    EXPECT_THAT(info.notes, IsEmpty());
  }
  EXPECT_FALSE(OpenBytes(recording.File())->info().pipe_mode);
  EXPECT_TRUE(OpenBytes(recording.Pipe())->info().pipe_mode);
}

TEST(PerfDataInfo, SmallestDepthOfSeveralPmus) {
  ByteVector caps;
  AppendScalar(caps, uint32_t{2});
  for (const char* depth : {"32", "16"}) {
    AppendScalar(caps, uint32_t{1});
    AppendString(caps, "branches");
    AppendString(caps, depth);
    AppendString(caps, "cpu_kind");
  }
  PerfDataBytes recording;
  recording.features = {{kFeaturePmuCaps, caps}};
  recording.Add(TestSample(1, 1));
  EXPECT_EQ(OpenBytes(recording.File())->info().lbr_depth, 16u);
}

TEST(PerfDataInfo, FeaturesMayBeMalformed) {
  for (const auto& [feature, bytes] : TestFeatures()) {
    for (size_t size = 0; size < bytes.size(); size += 3) {
      PerfDataBytes recording;
      recording.features = {{feature, ByteVector(bytes.begin(), bytes.begin() + size)}};
      recording.Add(TestSample(1, 9));
      const std::unique_ptr<PerfData> data = OpenBytes(recording.File());
      EXPECT_EQ(data->info().notes.size(), 1u) << feature << " " << size;
      EXPECT_THAT(ReadAll(*data).ips, ElementsAre(9));
    }
  }
}

RecordBytes BuildId(uint16_t misc, uint8_t size, absl::string_view path) {
  RecordBytes record(kPerfHeaderBuildId, misc);
  record.U32(static_cast<uint32_t>(-1))
      .Bytes(
          "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"
          "\x0d\x0e\x0f\x10\x11\x12\x13\x14");
  record.Put(size).Bytes(absl::string_view("\0\0\0", 3)).Text(path);
  return record;
}

TEST(PerfDataInfo, BuildIds) {
  const RecordBytes kernel = BuildId(PERF_RECORD_MISC_KERNEL, 0, "[kernel.kallsyms]");
  const RecordBytes file = BuildId(PERF_RECORD_MISC_USER | kMiscBuildIdSize, 16, "/bin/true");
  PerfDataBytes in_file;
  ByteVector table = kernel.bytes();
  Append(table, file.bytes());
  in_file.features = {{kFeatureBuildId, table}};
  in_file.Add(TestSample(1, 1));
  PerfDataBytes in_pipe;
  in_pipe.Add(TestSample(1, 1));
  in_pipe.Add(kernel);
  in_pipe.Add(file);
  for (const ByteVector& bytes : {in_file.File(), in_pipe.Pipe()}) {
    const std::unique_ptr<PerfData> data = OpenBytes(bytes);
    ReadAll(*data);
    const std::vector<RecordedBuildId>& ids = data->info().build_ids;
    ASSERT_EQ(ids.size(), 2u);
    EXPECT_EQ(ids[0].path, "[kernel.kallsyms]");
    EXPECT_EQ(ids[0].build_id, "0102030405060708090a0b0c0d0e0f1011121314");
    EXPECT_TRUE(ids[0].kernel);
    EXPECT_EQ(ids[1].path, "/bin/true");
    EXPECT_EQ(ids[1].build_id, "0102030405060708090a0b0c0d0e0f10");
    EXPECT_FALSE(ids[1].kernel);
  }
}

}  // namespace
}  // namespace lbrd::pmu
