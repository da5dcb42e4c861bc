#include "pmu/perf_data.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "perf_data_bytes.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What a recording gave until it ended.
struct Content {
  std::vector<uint64_t> times;
  std::vector<uint64_t> ips;       // of samples
  std::vector<std::string> comms;  // of COMM records
  std::vector<uint32_t> events;    // of samples
  uint64_t undecodable = 0;        // by DecodeRecord()
  absl::Status end;
};

Content ReadAll(PerfData& data) {
  Content content;
  RawRecord raw;
  for (;;) {
    const absl::StatusOr<ReadResult> result = data.Next(&raw);
    content.end = result.status();
    if (!result.ok() || *result == ReadResult::kEnd) return content;
    EXPECT_EQ(*result, ReadResult::kRecord);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(raw.header) % 8, 0u);
    if (raw.event >= data.events().size()) {
      ADD_FAILURE() << "an event that does not exist";
      return content;
    }
    content.times.push_back(raw.who.time);
    const absl::StatusOr<Record> record = DecodeRecord(raw.header, data.events()[raw.event].format);
    if (!record.ok()) {
      ++content.undecodable;
    } else if (const auto* sample = std::get_if<SampleRecord>(&*record)) {
      content.ips.push_back(sample->ip);
      content.events.push_back(raw.event);
    } else if (const auto* comm = std::get_if<CommRecord>(&*record)) {
      content.comms.emplace_back(comm->comm);
    }
  }
}

// The file is gone as soon as it is open.
absl::StatusOr<std::unique_ptr<PerfData>> TryOpen(const ByteVector& bytes,
                                                  const PerfDataOptions& options = {}) {
  const std::string path = WriteTemporary(bytes);
  absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(path, options);
  unlink(path.c_str());
  return data;
}
std::unique_ptr<PerfData> OpenBytes(const ByteVector& bytes, const PerfDataOptions& options = {}) {
  absl::StatusOr<std::unique_ptr<PerfData>> data = TryOpen(bytes, options);
  EXPECT_TRUE(data.ok()) << data.status();
  return data.ok() ? *std::move(data) : nullptr;
}
absl::Status OpenError(const ByteVector& bytes) { return TryOpen(bytes).status(); }
Content ReadBytes(const ByteVector& bytes, const PerfDataOptions& options = {}) {
  const std::unique_ptr<PerfData> data = OpenBytes(bytes, options);
  return data == nullptr ? Content{} : ReadAll(*data);
}

ByteVector Text(absl::string_view text) {
  ByteVector bytes;
  Append(bytes, text.data(), text.size());
  return bytes;
}

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

std::vector<std::pair<uint32_t, ByteVector>> Features() {
  ByteVector cpus;
  AppendScalar(cpus, uint32_t{16});
  AppendScalar(cpus, uint32_t{12});
  ByteVector command;
  AppendScalar(command, uint32_t{3});
  for (const char* word : {"perf", "record", "-b"}) AppendString(command, word);
  ByteVector events;
  AppendScalar(events, uint32_t{1});
  AppendScalar(events, uint32_t{sizeof(perf_event_attr)});
  AppendScalar(events, TestAttr());
  AppendScalar(events, uint32_t{1});
  AppendString(events, "my-event:u");
  AppendScalar(events, uint64_t{1});
  ByteVector caps;
  AppendScalar(caps, uint32_t{2});
  for (const char* word : {"branches", "32", "pmu_name", "skylake"}) AppendString(caps, word);
  return {{kFeatureHostname, StringFeature("box")},
          {kFeatureOsRelease, StringFeature("6.19")},
          {kFeatureVersion, StringFeature("6.1")},
          {kFeatureArch, StringFeature("x86_64")},
          {kFeatureNrCpus, cpus},
          {kFeatureCmdline, command},
          {kFeatureEventDesc, events},
          {kFeatureCpuPmuCaps, caps}};
}

TEST(PerfDataInfo, IsReadFromFeatures) {
  PerfDataBytes recording;
  recording.features = Features();
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
  for (const auto& [feature, bytes] : Features()) {
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

TEST(PerfDataPipe, NamesBehindMadeUpRecordsCount) {
  PerfDataBytes recording;
  recording.Add(TestComm(0, "init"));
  RecordBytes update(kPerfEventUpdate, 0);
  recording.Add(update.U64(kEventUpdateName).U64(1).Text("cpu-clock:HG"));
  recording.Add(TestSample(10, 10));
  const std::unique_ptr<PerfData> data = OpenBytes(recording.Pipe());
  EXPECT_EQ(data->events()[0].name, "cpu-clock:HG");
  const Content content = ReadAll(*data);
  EXPECT_THAT(content.comms, ElementsAre("init"));
  EXPECT_THAT(content.ips, ElementsAre(10));
}

TEST(PerfDataPipe, RefusesAnEventThatComesTooLate) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 10));
  RecordBytes attr(kPerfHeaderAttr, 0);
  recording.Add(attr.Put(TestAttr()).U64(2));
  const Content content = ReadBytes(recording.Pipe());
  EXPECT_THAT(content.ips, ElementsAre(10));
  EXPECT_EQ(content.end.code(), absl::StatusCode::kUnimplemented);
}

// A recording with data that follows records without being any.
PerfDataBytes WithTraces(size_t trace_bytes) {
  PerfDataBytes recording;
  recording.Add(TestSample(10, 10));
  RecordBytes auxtrace(kPerfAuxtrace, 0);
  recording.Add(auxtrace.U64(trace_bytes).U64s({0, 0}).U32(0).U32(0).U32(0).U32(0));
  recording.data.resize(recording.data.size() + trace_bytes, std::byte{0x5a});
  recording.Add(TestSample(20, 20));
  RecordBytes formats(kPerfTracingData, 0);
  recording.Add(formats.U32(13).U32(0));
  recording.data.resize(recording.data.size() + 16, std::byte{0x5a});
  recording.Add(TestSample(30, 30));
  return recording;
}

// Sends bytes through a named pipe while a recording is read from it.
class Fifo {
 public:
  Fifo() : path_(absl::StrCat(testing::TempDir(), "/lbrd-perf-data-fifo-", getpid())) {
    unlink(path_.c_str());
    EXPECT_EQ(mkfifo(path_.c_str(), 0600), 0);
  }
  ~Fifo() {
    if (writer_.joinable()) writer_.join();
    unlink(path_.c_str());
  }
  // `piece` bytes at a time; then waits for `hold` before the end of the stream is to be seen.
  void Send(
      ByteVector bytes, size_t piece, std::function<void()> hold = [] {}) {
    writer_ = std::thread([this, bytes = std::move(bytes), piece, hold = std::move(hold)] {
      const int fd = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
      for (size_t at = 0; at < bytes.size(); at += piece) {
        const size_t size = std::min(piece, bytes.size() - at);
        EXPECT_EQ(write(fd, bytes.data() + at, size), static_cast<ssize_t>(size));
      }
      hold();
      close(fd);
    });
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::thread writer_;
};

TEST(PerfDataPipe, SkipsTraces) {
  for (const size_t bytes : {size_t{0}, size_t{24}, size_t{5} << 20}) {
    const PerfDataBytes recording = WithTraces(bytes);
    for (const ByteVector& file : {recording.File(), recording.Pipe()}) {
      const Content content = ReadBytes(file);
      EXPECT_TRUE(content.end.ok()) << content.end;
      EXPECT_THAT(content.ips, ElementsAre(10, 20, 30));
    }
    Fifo fifo;
    fifo.Send(recording.Pipe(), 4096);
    const absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(fifo.path());
    ASSERT_TRUE(data.ok());
    EXPECT_THAT(ReadAll(**data).ips, ElementsAre(10, 20, 30));
    EXPECT_EQ((*data)->bytes_total(), 0u);
  }
}

TEST(PerfDataPipe, ATraceMayNotReachBeyondTheEnd) {
  for (const uint64_t bytes : {uint64_t{1} << 20, ~uint64_t{0}}) {
    PerfDataBytes recording;
    recording.Add(TestSample(10, 10));
    RecordBytes auxtrace(kPerfAuxtrace, 0);
    recording.Add(auxtrace.U64(bytes).U64s({0, 0, 0, 0}));
    for (const ByteVector& file : {recording.File(), recording.Pipe()}) {
      const Content content = ReadBytes(file);
      EXPECT_THAT(content.ips, ElementsAre(10));
      EXPECT_EQ(content.end.code(), absl::StatusCode::kDataLoss);
    }
  }
}

TEST(PerfDataPipe, ComesByteByByte) {
  PerfDataBytes recording;
  recording.features = Features();
  for (uint64_t i = 1; i < 50; ++i) recording.Add(TestSample(i, i));
  Fifo fifo;
  fifo.Send(recording.Pipe(), 1);
  const absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(fifo.path());
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(ReadAll(**data).ips.size(), 49u);
}

TEST(PerfDataPipe, InterruptEndsAReadThatBlocks) {
  PerfDataBytes recording;
  recording.Add(TestSample(1, 1));
  std::atomic<bool> done{false};
  Fifo fifo;
  fifo.Send(recording.Pipe(), 4096, [&] {
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  const absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(fifo.path());
  ASSERT_TRUE(data.ok());
  std::thread interrupter([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    (*data)->Interrupt();
  });
  EXPECT_TRUE(ReadAll(**data).end.ok());
  interrupter.join();
  done = true;
}

TEST(PerfDataPipe, FileFormatNeedsAFile) {
  PerfDataBytes recording;
  Fifo fifo;
  fifo.Send(recording.File(), 4096);
  EXPECT_THAT(PerfData::Open(fifo.path()).status().message(),
              HasSubstr("cannot be read from a pipe"));
}

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

std::string RecordingsFolder() {
  const char* folder = getenv("LBRD_RECORDINGS");
  return folder != nullptr ? folder : LBRD_SOURCE_DIR "/../shared/recordings";
}

struct Expected {
  const char* file;
  uint64_t samples;
  uint64_t other;
  uint64_t with_branches;
  uint64_t branches;
  uint64_t with_user_stack;
  uint32_t lbr_depth;
};
class RealRecording : public testing::TestWithParam<Expected> {
 protected:
  void SetUp() override {
    path_ = absl::StrCat(RecordingsFolder(), "/", GetParam().file);
    if (!std::filesystem::exists(path_)) GTEST_SKIP() << "there is no " << path_;
  }
  std::string path_;
};

// The figures are those of perf report -D and perf script, where they can read the file.
TEST_P(RealRecording, HoldsWhatPerfSays) {
  const absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(path_);
  ASSERT_TRUE(data.ok()) << data.status();
  Expected found{};
  RawRecord raw;
  absl::StatusOr<ReadResult> result = (*data)->Next(&raw);
  for (uint64_t last = 0; result.ok() && *result == ReadResult::kRecord;
       result = (*data)->Next(&raw)) {
    EXPECT_TRUE(raw.who.time == 0 || raw.who.time >= last) << "out of order";
    last = std::max(last, raw.who.time);
    const absl::StatusOr<Record> record =
        DecodeRecord(raw.header, (*data)->events()[raw.event].format);
    ASSERT_TRUE(record.ok()) << record.status();
    if (const auto* sample = std::get_if<SampleRecord>(&*record)) {
      ++found.samples;
      found.branches += sample->branch_stack.branches.size();
      found.with_branches += sample->branch_stack.branches.empty() ? 0 : 1;
      found.with_user_stack += sample->user_stack.empty() ? 0 : 1;
    } else {
      ++found.other;
    }
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(found.samples, GetParam().samples);
  EXPECT_EQ(found.other, GetParam().other);
  EXPECT_EQ(found.with_branches, GetParam().with_branches);
  EXPECT_EQ(found.branches, GetParam().branches);
  EXPECT_EQ(found.with_user_stack, GetParam().with_user_stack);
  EXPECT_EQ((*data)->info().lbr_depth, GetParam().lbr_depth);
  const SourceStats stats = (*data)->stats();
  EXPECT_EQ(stats.samples, found.samples);
  EXPECT_EQ(stats.undecodable, 0u);
  EXPECT_EQ(stats.late_records, 0u);
  EXPECT_THAT((*data)->info().notes, IsEmpty());
}

// Reads a recording that was spoiled: it must end, in whatever way.
void Survive(const ByteVector& bytes) {
  const absl::StatusOr<std::unique_ptr<PerfData>> data = TryOpen(bytes);
  if (data.ok()) ReadAll(**data);
}

TEST_P(RealRecording, MaySpoilInAnyWay) {
  if (std::filesystem::file_size(path_) > 200'000) return;  // the small ones have all features
  std::ifstream file(path_, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteVector whole = Text(text);
  for (size_t i = 0; i < 60; ++i) {
    Survive(ByteVector(whole.begin(), whole.begin() + whole.size() * i / 60));
    ByteVector flipped = whole;
    // The beginning, where the structure is, more often than the rest.
    const size_t at = i % 2 == 0 ? i * 8 % whole.size() : i * 104'729 % whole.size();
    flipped[at] ^= std::byte{0xff};
    Survive(flipped);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Recordings, RealRecording,
    testing::Values(Expected{"lbr-callstack-tgl-596.data", 596, 309, 531, 4870, 0, 32},
                    Expected{"lbr-any-skl-13.data", 13, 35, 13, 416, 0, 0},
                    Expected{"lbr-any-fp-systemwide-snb-1856.data", 1856, 2027, 1856, 29696, 0, 0},
                    Expected{"lbr-any-amd-zen4-8.data", 8, 118, 8, 128, 0, 16},
                    Expected{"lbr-any-hsw-145.data", 145, 8, 145, 2320, 0, 16},
                    Expected{"hybrid-rpl-7.data", 7, 111, 0, 0, 0, 32},
                    Expected{"zstd-pipe-arm64-8.data", 8, 81, 0, 0, 0, 0},
                    Expected{"zstd2-pipe-dwarf-fibo.data", 547, 1080, 0, 0, 547, 32},
                    Expected{"dwarf-regs-stack-kbl-8.data", 8, 58, 0, 0, 8, 32},
                    Expected{"pipe-header-features-6.12.data", 9, 7, 0, 0, 0, 32},
                    Expected{"lost-samples-4.4.data", 191, 51, 0, 0, 0, 0},
                    Expected{"emulated/arch-sys-6.19.data", 6920, 209, 6785, 163881, 0, 32},
                    Expected{"emulated/arch-sys-6.12.data", 5009, 207, 3356, 74494, 0, 32},
                    Expected{"emulated/arch-sys-two-users-7.2.data", 2622, 278, 2300, 66440, 0, 32},
                    Expected{"emulated/arch-deep60-6.19.data", 1759, 5, 1758, 54787, 0, 32},
                    Expected{"emulated/legacy-deep60-6.19.data", 1717, 5, 1712, 53369, 0, 32}),
    [](const auto& test) {
      std::string name = std::filesystem::path(test.param.file).stem();
      for (char& letter : name) letter = isalnum(letter) ? letter : '_';
      return name;
    });

}  // namespace
}  // namespace lbrd::pmu
