#include "pmu/record_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <variant>

namespace lbrd::pmu {
namespace {

// The one record that was written, as DecodeRecord sees it.
template <typename T>
T Only(const RecordWriter& writer) {
  const auto* header = reinterpret_cast<const perf_event_header*>(writer.words().data());
  EXPECT_EQ(header->size, writer.words().size() * 8);
  const auto record = DecodeRecord(header, {});
  EXPECT_TRUE(record.ok()) << record.status();
  return std::get<T>(*record);
}

TEST(RecordWriter, CommComesBack) {
  RecordWriter writer;
  writer.Comm(50, 51, "worker");
  const auto comm = Only<CommRecord>(writer);
  EXPECT_EQ(comm.pid, 50);
  EXPECT_EQ(comm.tid, 51);
  EXPECT_EQ(comm.comm, "worker");
  EXPECT_FALSE(comm.exec);
  EXPECT_EQ(comm.who.pid, 50);
}

TEST(RecordWriter, ExecComesBack) {
  RecordWriter writer;
  writer.Comm(50, 50, "sh", /*exec=*/true);
  EXPECT_TRUE(Only<CommRecord>(writer).exec);
}

TEST(RecordWriter, NamesOfEveryLengthAreTerminated) {
  for (size_t length = 0; length <= 17; ++length) {
    RecordWriter writer;
    const std::string name(length, 'n');
    writer.Comm(1, 1, name);
    EXPECT_EQ(Only<CommRecord>(writer).comm, name);
    EXPECT_EQ(writer.words().back() >> 56, 0u);
  }
}

TEST(RecordWriter, ExitComesBack) {
  RecordWriter writer;
  writer.Exit(50, 51);
  const auto task = Only<TaskRecord>(writer);
  EXPECT_TRUE(task.exit);
  EXPECT_EQ(task.pid, 50);
  EXPECT_EQ(task.tid, 51);
}

TEST(RecordWriter, MappingsOfInodesComeBack) {
  RecordWriter writer;
  writer.Mmap2(50, 51, 0x7f0000001000, 0x2000, 0x3000, true,
               {.build_id = {}, .major = 253, .minor = 1, .inode = 99, .inode_generation = 7},
               "/usr/lib/a b.so");
  const auto map = Only<MmapRecord>(writer);
  EXPECT_EQ(map.pid, 50);
  EXPECT_EQ(map.tid, 51);
  EXPECT_EQ(map.start, 0x7f0000001000u);
  EXPECT_EQ(map.length, 0x2000u);
  EXPECT_EQ(map.file_offset, 0x3000u);
  EXPECT_TRUE(map.executable);
  EXPECT_FALSE(map.kernel);
  EXPECT_TRUE(map.file.build_id.empty());
  EXPECT_EQ(map.file.major, 253u);
  EXPECT_EQ(map.file.minor, 1u);
  EXPECT_EQ(map.file.inode, 99u);
  EXPECT_EQ(map.file.inode_generation, 7u);
  EXPECT_EQ(map.path, "/usr/lib/a b.so");
}

TEST(RecordWriter, MappingsOfBuildIdsComeBack) {
  std::byte build_id[20];
  for (size_t i = 0; i < 20; ++i) build_id[i] = static_cast<std::byte>(0xa0 + i);
  for (const size_t size : {1, 16, 20}) {
    RecordWriter writer;
    writer.Mmap2(50, 50, 0x1000, 0x1000, 0, false,
                 {.build_id = std::span<const std::byte>(build_id, size)}, "/x");
    const auto map = Only<MmapRecord>(writer);
    EXPECT_FALSE(map.executable);
    ASSERT_EQ(map.file.build_id.size(), size);
    EXPECT_TRUE(std::equal(build_id, build_id + size, map.file.build_id.begin()));
  }
}

TEST(RecordWriter, CutsPathsThatNoFileCanHave) {
  RecordWriter writer;
  writer.Mmap2(1, 1, 0x1000, 0x1000, 0, true, {}, std::string(70000, 'p'));
  EXPECT_EQ(Only<MmapRecord>(writer).path, std::string(4095, 'p'));
}

TEST(RecordWriter, AppendsOneAfterAnother) {
  RecordWriter writer;
  writer.Comm(1, 1, "first");
  const size_t second = writer.words().size();
  writer.Exit(2, 2);
  const auto* header = reinterpret_cast<const perf_event_header*>(writer.words().data() + second);
  EXPECT_EQ(header->type, static_cast<uint32_t>(PERF_RECORD_EXIT));
  EXPECT_EQ(second + header->size / 8, writer.words().size());
  writer.Clear();
  EXPECT_TRUE(writer.words().empty());
}

}  // namespace
}  // namespace lbrd::pmu
