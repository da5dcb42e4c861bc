#include "unwind/process_table.h"

#include "gtest/gtest.h"

namespace lbrd::unwind {
namespace {

class NoFiles : public FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t pid,
                                                         const FileIdentity&) override {
    asked_.push_back(pid);
    return absl::UnavailableError("it is gone");
  }
  std::vector<int32_t> asked_;
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(int32_t,
                                                              const std::string&) override {
    return absl::NotFoundError("none here");
  }
};

class ProcessTableTest : public testing::Test {
 protected:
  void Mmap(int32_t pid, uint64_t start, uint64_t length, absl::string_view path) {
    pmu::MmapRecord record;
    record.pid = record.tid = pid;
    record.start = start;
    record.length = length;
    record.executable = true;
    record.path = path;
    table_.Apply(record);
  }
  void Comm(int32_t pid, int32_t tid, absl::string_view comm, bool exec = false) {
    pmu::CommRecord record;
    record.pid = pid;
    record.tid = tid;
    record.comm = comm;
    record.exec = exec;
    table_.Apply(record);
  }
  void Fork(int32_t ppid, int32_t ptid, int32_t pid, int32_t tid) {
    pmu::TaskRecord record;
    record.pid = pid;
    record.tid = tid;
    record.ppid = ppid;
    record.ptid = ptid;
    table_.Apply(record);
  }
  void Exit(int32_t pid, int32_t tid) {
    pmu::TaskRecord record;
    record.exit = true;
    record.pid = record.ppid = pid;
    record.tid = record.ptid = tid;
    table_.Apply(record);
  }
  // The path mapped at an address of a process; empty: none.
  std::string PathAt(int32_t pid, uint64_t address) {
    const Mapping* found = table_.Get(pid).space.Find(address);
    return found != nullptr ? found->binary->path() : "";
  }

  NoFiles files_;
  BinaryCache binaries_{&files_};
  ProcessTable table_{&binaries_};
};

TEST_F(ProcessTableTest, MapsWhatIsExecutable) {
  pmu::MmapRecord record;
  record.pid = 5;
  record.start = 0x1000;
  record.length = 0x1000;
  record.file_offset = 0x3000;
  record.path = "/bin/a";
  table_.Apply(record);  // data
  EXPECT_EQ(PathAt(5, 0x1000), "");
  record.executable = record.kernel = true;
  table_.Apply(record);
  EXPECT_EQ(PathAt(5, 0x1000), "");
  record.kernel = false;
  const std::vector<std::byte> build_id = {std::byte{0xab}, std::byte{0x01}};
  record.file.build_id = build_id;
  record.file.inode = 77;
  table_.Apply(record);
  const Mapping* mapping = table_.Get(5).space.Find(0x1fff);
  ASSERT_NE(mapping, nullptr);
  EXPECT_EQ(mapping->file_offset, 0x3000u);
  EXPECT_EQ(mapping->binary->build_id(), "ab01");
  EXPECT_EQ(mapping->binary->identity().inode, 77u);
}

TEST_F(ProcessTableTest, RefusesMappingsBeyondTheLastAddress) {
  Mmap(5, ~uint64_t{0} - 0x10, 0x100, "/bin/a");
  Mmap(5, 0x1000, 0, "/bin/a");
  EXPECT_TRUE(table_.Get(5).space.mappings().empty());
}

TEST_F(ProcessTableTest, ThreadsHaveTheirOwnNames) {
  Comm(5, 5, "server");
  Fork(5, 5, 5, 6);
  EXPECT_EQ(table_.Get(5).Comm(6), "server");
  Comm(5, 6, "worker");
  EXPECT_EQ(table_.Get(5).Comm(6), "worker");
  EXPECT_EQ(table_.Get(5).Comm(5), "server");
  // Started by the worker, not by the leader.
  Fork(5, 6, 5, 7);
  EXPECT_EQ(table_.Get(5).Comm(7), "worker");
  EXPECT_EQ(table_.Get(5).Comm(99), "server");  // never heard of
  EXPECT_EQ(table_.Get(8).Comm(8), "");
  EXPECT_EQ(table_.Get(0).Comm(0), "swapper");
}

TEST_F(ProcessTableTest, ForkCopiesTheSpaceAndTheName) {
  Comm(5, 5, "leader");
  Comm(5, 6, "forker");
  Mmap(5, 0x1000, 0x1000, "/bin/a");
  Fork(5, 6, 10, 10);
  EXPECT_EQ(PathAt(10, 0x1000), "/bin/a");
  EXPECT_EQ(table_.Get(10).Comm(10), "forker");
  // From here on each goes its own way.
  Mmap(5, 0x1000, 0x1000, "/bin/parent");
  Mmap(10, 0x5000, 0x1000, "/lib/child");
  EXPECT_EQ(PathAt(10, 0x1000), "/bin/a");
  EXPECT_EQ(PathAt(5, 0x5000), "");
  // And the child's other threads are not copied.
  EXPECT_EQ(table_.Get(10).comms.Find(6), nullptr);
}

TEST_F(ProcessTableTest, ElderProcessesAreAskedForFilesNearestFirst) {
  Fork(1, 1, 10, 10);
  Fork(10, 10, 20, 20);
  Fork(20, 20, 20, 21);  // a thread
  Fork(20, 21, 30, 30);
  Fork(30, 30, 40, 40);
  Comm(40, 40, "ls", /*exec=*/true);
  files_.asked_.clear();
  Mmap(40, 0x1000, 0x1000, "/bin/ls");
  EXPECT_EQ(files_.asked_, (std::vector<int32_t>{40, 30, 20, 10}));
}

TEST_F(ProcessTableTest, ExecClearsTheSpaceAndTheNames) {
  Comm(5, 5, "shell");
  Comm(5, 6, "helper");
  Mmap(5, 0x1000, 0x1000, "/bin/shell");
  Comm(5, 5, "renamed");  // not an exec: prctl
  EXPECT_EQ(PathAt(5, 0x1000), "/bin/shell");
  Comm(5, 5, "ls", /*exec=*/true);
  EXPECT_EQ(PathAt(5, 0x1000), "");
  EXPECT_EQ(table_.Get(5).Comm(5), "ls");
  EXPECT_EQ(table_.Get(5).Comm(6), "ls");
  Mmap(5, 0x1000, 0x1000, "/bin/ls");
  EXPECT_EQ(PathAt(5, 0x1000), "/bin/ls");
}

TEST_F(ProcessTableTest, TheLastThreadTakesTheProcessAlong) {
  Comm(5, 5, "server");
  Fork(5, 5, 5, 6);
  Mmap(5, 0x1000, 0x1000, "/bin/a");
  Exit(5, 5);  // the leader, while a thread goes on
  EXPECT_EQ(table_.size(), 1u);
  EXPECT_EQ(PathAt(5, 0x1000), "/bin/a");
  EXPECT_EQ(table_.Get(5).Comm(6), "server");
  Exit(5, 6);
  EXPECT_EQ(table_.size(), 0u);
  Exit(5, 6);  // once more
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(ProcessTableTest, AUsedPidKnowsNothingOfItsFormerOwner) {
  Comm(1, 1, "init");
  Mmap(1, 0x1000, 0x1000, "/sbin/init");
  Comm(5, 5, "old");
  Mmap(5, 0x9000, 0x1000, "/bin/old");
  const uint64_t generation = table_.Get(5).space.generation();
  Exit(5, 5);
  EXPECT_EQ(PathAt(5, 0x9000), "");
  // As many changes as its former owner had.
  Mmap(5, 0x9000, 0x1000, "/bin/new");
  EXPECT_NE(table_.Get(5).space.generation(), generation);

  // The exit was lost, yet the pid is used again.
  Comm(5, 7, "old thread");
  Fork(1, 1, 5, 5);
  EXPECT_EQ(PathAt(5, 0x9000), "");
  EXPECT_EQ(PathAt(5, 0x1000), "/sbin/init");
  EXPECT_EQ(table_.Get(5).Comm(7), "init");
}

TEST_F(ProcessTableTest, ForgetsTheLongestUntouched) {
  for (int32_t pid = 1; pid <= static_cast<int32_t>(ProcessTable::kMaxProcesses); ++pid) {
    table_.Get(pid);
  }
  Comm(1, 1, "kept");
  Comm(2, 2, "lost");
  Comm(1, 1, "kept");
  for (int32_t pid = 3; pid <= static_cast<int32_t>(ProcessTable::kMaxProcesses); ++pid) {
    table_.Get(pid);
  }
  table_.Get(1);
  EXPECT_EQ(table_.forgotten(), 0u);
  table_.Get(1 << 20);
  EXPECT_EQ(table_.forgotten(), 1u);
  EXPECT_EQ(table_.size(), ProcessTable::kMaxProcesses);
  EXPECT_EQ(table_.Get(1).Comm(1), "kept");
  EXPECT_EQ(table_.Get(2).Comm(2), "");
}

}  // namespace
}  // namespace lbrd::unwind
