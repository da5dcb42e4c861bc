#include "unwind/single_rules.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/unwind/live_process.h"
#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/rule_tables.h"
#include "unwind/unwind_rules_builder.h"

namespace lbrd::unwind {
namespace {

// A binary that this program has mapped and that is large enough: libc, libstdc++, itself.
std::vector<std::shared_ptr<const Binary>> LargeBinaries(BinaryCache* binaries) {
  std::vector<std::shared_ptr<const Binary>> result;
  const AddressSpace space = LiveSpace(binaries);
  for (const Mapping& m : space.mappings()) {
    const ElfFile* elf = m.binary->elf();
    if (elf != nullptr && SingleRules::Open(*elf) != nullptr) result.push_back(m.binary);
  }
  return result;
}

TEST(SingleRules, AreThoseOfTheTableAtEveryRow) {
  LiveFiles files;
  BinaryCache binaries(&files);
  const auto large = LargeBinaries(&binaries);
  ASSERT_GE(large.size(), 2u);
  for (const auto& binary : large) {
    const UnwindRules table = UnwindRulesBuilder::Build(*binary->elf());
    const std::unique_ptr<SingleRules> single = SingleRules::Open(*binary->elf());
    size_t rows = 0;
    size_t answered = 0;
    size_t has_rule = 0;
    const auto compare = [&](uint64_t address) {
      const UnwindRule& expected = table.Find(address);
      ++rows;
      has_rule += expected.kind != UnwindRule::kNone;
      const std::optional<UnwindRule> rule = single->Find(address);
      if (!rule.has_value()) return;
      ++answered;
      ASSERT_EQ(*rule, expected) << binary->path() << " at " << std::hex << address;
    };
    table.ForEachRow([&](uint64_t address, const UnwindRule&) {
      compare(address);
      compare(address - 1);
    });
    EXPECT_GT(rows, 5000u) << binary->path();
    EXPECT_GT(answered, has_rule * 98 / 100) << binary->path() << " of " << rows;
  }
}

TEST(SingleRules, OutsideAllCodeThereIsNoRule) {
  LiveFiles files;
  BinaryCache binaries(&files);
  const std::unique_ptr<SingleRules> single =
      SingleRules::Open(*LargeBinaries(&binaries).at(0)->elf());
  for (const uint64_t address : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40, UINT64_MAX}) {
    EXPECT_EQ(single->Find(address), UnwindRule()) << address;
  }
}

TEST(SingleRules, ATableIsMadeOnceAsMuchIsSpent) {
  LiveFiles files;
  BinaryCache binaries(&files);
  const auto binary = LargeBinaries(&binaries).at(0);
  const UnwindRules expected = UnwindRulesBuilder::Build(*binary->elf());
  uint64_t address = 0;
  expected.ForEachRow([&](uint64_t at, const UnwindRule& rule) {
    if (address == 0 && rule.kind == UnwindRule::kOffsets) address = at;
  });
  ASSERT_NE(address, 0u);
  RuleTables tables;
  tables.PreferSingleRules();
  EXPECT_EQ(tables.Find(binary, address), expected.Find(address));
  EXPECT_EQ(tables.stats().built, 0u);
  const size_t without = tables.stats().bytes;
  EXPECT_GE(without, SingleRules::kMinBytes) << "what it holds is under the budget";
  for (size_t i = 0; i <= SingleRules::kMaxBytes / SingleRules::kBytesPerLookUp; ++i) {
    ASSERT_EQ(tables.Find(binary, address), expected.Find(address));
    if (tables.stats().built != 0) break;
  }
  EXPECT_EQ(tables.stats().built, 1u);
  EXPECT_EQ(tables.stats().bytes, tables.Get(binary)->bytes());
}

TEST(SingleRules, CorruptSectionsAreHarmless) {
  LiveFiles files;
  BinaryCache binaries(&files);
  const auto binary = LargeBinaries(&binaries).at(0);
  const std::shared_ptr<const ByteSource> whole = binary->elf()->bytes();
  std::vector<std::byte> bytes(whole->size());
  ASSERT_TRUE(whole->ReadAt(0, bytes).ok());
  const ElfSegment header = *binary->elf()->eh_frame_hdr();
  const ElfSection frames = *binary->elf()->FindSection(".eh_frame");
  uint64_t random = 12345;
  const auto next = [&] { return random = random * 6364136223846793005 + 1442695040888963407; };
  for (uint64_t i = 0; i < 4000; ++i) {
    bytes[header.offset + 12 + (next() >> 33) % (header.file_size - 12)] = std::byte(next() >> 56);
    bytes[frames.offset + (next() >> 33) % frames.size] = std::byte(next() >> 56);
  }
  const absl::StatusOr<ElfFile> elf =
      ElfFile::Parse(std::make_shared<MemoryBytes>(bytes.data(), bytes.size()));
  ASSERT_TRUE(elf.ok());
  const std::unique_ptr<SingleRules> single = SingleRules::Open(*elf);
  ASSERT_NE(single, nullptr);
  const auto [start, end] = UnwindRulesBuilder::CodeOf(*elf);
  size_t answered = 0;
  for (int i = 0; i < 20'000; ++i) {
    answered += single->Find(start + (next() >> 20) % (end - start)).has_value();
  }
  EXPECT_GT(answered, 0u);
}

}  // namespace
}  // namespace lbrd::unwind
