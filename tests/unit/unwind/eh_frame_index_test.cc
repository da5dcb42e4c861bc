#include "unwind/eh_frame_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/elf_file.h"

namespace lbrd::unwind {
namespace {

struct Table {
  std::vector<std::pair<int64_t, int64_t>> entries;  // function and FDE, as addresses
};

Table Decode(const std::vector<std::byte>& header, uint64_t address) {
  Table table;
  uint32_t count = 0;
  std::memcpy(&count, header.data() + 8, 4);
  for (uint32_t i = 0; i < count; ++i) {
    int32_t pair[2];
    std::memcpy(pair, header.data() + 12 + i * 8, 8);
    table.entries.emplace_back(static_cast<int64_t>(address) + pair[0],
                               static_cast<int64_t>(address) + pair[1]);
  }
  return table;
}

// The linker's own table is the oracle: ours over the same frames must be the same.
TEST(EhFrameIndex, EqualsTheLinkersTable) {
  const std::shared_ptr<MemoryBytes> bytes = MemoryBytes::OfFile("/proc/self/exe");
  ASSERT_NE(bytes, nullptr);
  const absl::StatusOr<ElfFile> elf = ElfFile::Parse(bytes);
  ASSERT_TRUE(elf.ok()) << elf.status();
  const ElfSection* frames = elf->FindSection(".eh_frame");
  const ElfSection* header = elf->FindSection(".eh_frame_hdr");
  ASSERT_NE(frames, nullptr);
  ASSERT_NE(header, nullptr);
  const auto linkers = elf->Read(*header);
  const auto content = elf->Read(*frames);
  ASSERT_TRUE(linkers.ok() && content.ok());

  const auto ours = BuildEhFrameHeader(*content, frames->address, header->address);
  ASSERT_GE(ours.size(), 12u);
  EXPECT_EQ(std::memcmp(ours.data(), linkers->data(), 4), 0) << "version and encodings";
  const Table mine = Decode(ours, header->address);
  const Table theirs = Decode(*linkers, header->address);
  EXPECT_GT(mine.entries.size(), 1000u);
  EXPECT_EQ(mine.entries, theirs.entries);
}

TEST(EhFrameIndex, NothingFromNothing) {
  EXPECT_TRUE(BuildEhFrameHeader({}, 0x1000, 0x2000).empty());
  const std::vector<std::byte> terminator(4);
  EXPECT_TRUE(BuildEhFrameHeader(terminator, 0x1000, 0x2000).empty());
}

TEST(EhFrameIndex, SurvivesNoise) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> noise(random() % 256);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random() % 32);
    BuildEhFrameHeader(noise, random(), random());
  }
}

}  // namespace
}  // namespace lbrd::unwind
