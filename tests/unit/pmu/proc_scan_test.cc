#include "pmu/proc_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "fake_kernel.h"

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;

TEST(ParseProcMapping, ReadsAFileMapping) {
  ProcMapping mapping;
  ASSERT_TRUE(
      ParseProcMapping("7f1c2a400000-7f1c2a5aa000 r-xp 00028000 fd:01 1838765                    "
                       "/usr/lib/x86_64-linux-gnu/libc.so.6",
                       &mapping));
  EXPECT_EQ(mapping.start, 0x7f1c2a400000u);
  EXPECT_EQ(mapping.end, 0x7f1c2a5aa000u);
  EXPECT_EQ(mapping.offset, 0x28000u);
  EXPECT_TRUE(mapping.executable);
  EXPECT_EQ(mapping.major, 0xfdu);
  EXPECT_EQ(mapping.minor, 1u);
  EXPECT_EQ(mapping.inode, 1838765u);
  EXPECT_EQ(mapping.path, "/usr/lib/x86_64-linux-gnu/libc.so.6");
}

TEST(ParseProcMapping, KeepsPathsAsTheyAre) {
  for (const char* path : {"/home/a b/my  program (deleted)", "/tmp/new\\012line", "[vdso]",
                           "/memfd:jit (deleted)", "/dev/zero:x y", "anon_inode:[perf_event]"}) {
    const std::string line = absl::StrCat("1000-2000 r-xs 0 00:05 7       ", path);
    ProcMapping mapping;
    ASSERT_TRUE(ParseProcMapping(line, &mapping));
    EXPECT_EQ(mapping.path, path);
  }
}

TEST(ParseProcMapping, ReadsAnonymousMappings) {
  for (const char* line : {"1000-2000 rwxp 00000000 00:00 0", "1000-2000 rwxp 00000000 00:00 0 "}) {
    ProcMapping mapping;
    ASSERT_TRUE(ParseProcMapping(line, &mapping)) << line;
    EXPECT_TRUE(mapping.path.empty());
    EXPECT_EQ(mapping.inode, 0u);
  }
}

TEST(ParseProcMapping, TellsWhatIsExecutable) {
  ProcMapping mapping;
  ASSERT_TRUE(ParseProcMapping("1000-2000 rw-p 0 00:00 0", &mapping));
  EXPECT_FALSE(mapping.executable);
  ASSERT_TRUE(ParseProcMapping(
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
      &mapping));
  EXPECT_TRUE(mapping.executable);
  EXPECT_EQ(mapping.end, 0xffffffffff601000u);
}

TEST(ParseProcMapping, TakesNothingElse) {
  for (const char* line :
       {"", " ", "1000", "1000-2000", "1000-2000 r-xp", "1000-2000 r-xp 0",
        "1000-2000 r-xp 0 00:00", "2000-1000 r-xp 0 00:00 0", "1000-1000 r-xp 0 00:00 0",
        "xyz-2000 r-xp 0 00:00 0", "1000-2000 rx 0 00:00 0", "1000-2000 r-xp 0 0000 0",
        "1000-2000 r-xp 0 00:00 inode", "10000000000000000-20000000000000000 r-xp 0 00:00 0",
        "Size: 4 kB"}) {
    ProcMapping mapping;
    EXPECT_FALSE(ParseProcMapping(line, &mapping)) << line;
  }
}

std::vector<const perf_event_header*> Headers(const RecordWriter& writer) {
  std::vector<const perf_event_header*> headers;
  for (size_t at = 0; at < writer.words().size();) {
    headers.push_back(reinterpret_cast<const perf_event_header*>(writer.words().data() + at));
    at += headers.back()->size / 8;
  }
  return headers;
}

TEST(ScanProcess, TellsNamesAndExecutableMappings) {
  FakeKernel kernel;
  kernel.folders["/proc/50/task"] = {50, 51, 52};
  kernel.files["/proc/50/task/50/comm"] = "server\n";
  kernel.files["/proc/50/task/51/comm"] = "two words\n";  // 52 has left
  kernel.files["/proc/50/maps"] =
      "400000-401000 r--p 00000000 fd:01 9       /bin/server\n"
      "not a mapping\n"
      "401000-402000 r-xp 00001000 fd:01 9       /bin/server\n"
      "403000-404000 rwxp 00000000 00:00 0 \n";
  RecordWriter writer;
  ASSERT_TRUE(ScanProcess(kernel, 50, &writer).ok());
  std::vector<std::string> told;
  for (const perf_event_header* header : Headers(writer)) {
    const auto record = DecodeRecord(header, {});
    ASSERT_TRUE(record.ok()) << record.status();
    if (const auto* comm = std::get_if<CommRecord>(&*record)) {
      told.push_back(absl::StrCat(comm->pid, "/", comm->tid, " ", comm->comm));
      EXPECT_FALSE(comm->exec);
    } else if (const auto* mmap = std::get_if<MmapRecord>(&*record)) {
      told.push_back(absl::StrCat(mmap->pid, " ", absl::Hex(mmap->start), "+",
                                  absl::Hex(mmap->length), " ", absl::Hex(mmap->file_offset), " ",
                                  absl::Hex(mmap->file.major), ":", mmap->file.minor, ":",
                                  mmap->file.inode, " ", mmap->path));
      EXPECT_TRUE(mmap->executable);
    }
  }
  EXPECT_THAT(
      told, ElementsAre("50/50 server", "50/51 two words", "50 401000+1000 1000 fd:1:9 /bin/server",
                        "50 403000+1000 0 0:0:0 //anon"));
}

TEST(ScanProcess, TellsThreadsAndWhenTheyStarted) {
  FakeKernel kernel;
  kernel.folders["/proc/50/task"] = {50, 51, 52};
  for (const int tid : {50, 51, 52}) {
    kernel.files[absl::StrCat("/proc/50/task/", tid, "/comm")] = absl::StrCat("t", tid, "\n");
  }
  // A name that tries to look like the fields after it.
  kernel.files["/proc/50/task/50/stat"] =
      "50 (a ) b 1 2) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1000 20 21\n";
  kernel.files["/proc/50/task/51/stat"] = "51 (x) S 1 2 3\n";  // 52 leaves in between
  kernel.files["/proc/50/maps"] = "";
  RecordWriter writer;
  std::vector<RunningThread> threads;
  ASSERT_TRUE(ScanProcess(kernel, 50, &writer, &threads).ok());
  ASSERT_EQ(threads.size(), 1u);
  EXPECT_EQ(threads[0].pid, 50);
  EXPECT_EQ(threads[0].tid, 50);
  EXPECT_EQ(threads[0].start_ticks, 1000u);
  EXPECT_EQ(threads[0].comm, "t50");
  EXPECT_EQ(StartTicksOf(kernel, 50, 51), std::nullopt);
  EXPECT_EQ(StartTicksOf(kernel, 50, 52), std::nullopt);
}

TEST(StartClock, IsTheRecordsAlsoWhereTheMachineWasSuspended) {
  FakeKernel kernel;
  EXPECT_EQ(StartClock(kernel).ToNs(150), 1'500'000'000u);  // no /proc/uptime
  const uint64_t now = kernel.Now();
  const auto uptime = [&kernel](uint64_t ns) {
    kernel.files["/proc/uptime"] = absl::StrCat(
        ns / 1'000'000'000, ".", absl::Dec(ns / 10'000'000 % 100, absl::kZeroPad2), " 17.00\n");
  };
  uptime(now);
  EXPECT_EQ(StartClock(kernel).ToNs(150), 1'500'000'000u);
  // An hour asleep: what started 1 s after boot on the clock of records, up to 20 ms early.
  constexpr uint64_t kHour = 3'600'000'000'000;
  uptime(now + kHour);
  const uint64_t start = StartClock(kernel).ToNs(360'100);
  EXPECT_LE(start, 1'000'000'000u);
  EXPECT_GE(start, 980'000'000u);
  EXPECT_EQ(StartClock(kernel).ToNs(100), 0u) << "not before boot";
  EXPECT_GT(StartClock(kernel).ToNs(UINT64_MAX), start);
}

TEST(ScanProcess, KnowsNoProcessThatLeft) {
  FakeKernel kernel;
  RecordWriter writer;
  EXPECT_EQ(ScanProcess(kernel, 50, &writer).code(), absl::StatusCode::kNotFound);
  kernel.folders["/proc/50/task"] = {50};
  EXPECT_EQ(ScanProcess(kernel, 50, &writer).code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lbrd::pmu
