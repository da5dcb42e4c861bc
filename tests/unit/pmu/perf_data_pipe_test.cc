#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "perf_data_content.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  recording.features = TestFeatures();
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

}  // namespace
}  // namespace lbrd::pmu
