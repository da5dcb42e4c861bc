#include "unwind/single_rules.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
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

// Each with the table that it is a view of.
void ExpectSame(const UnwindRules& a_in, const FullRule& a, const UnwindRules& b_in,
                const FullRule& b) {
  const auto bytes = [](std::span<const std::byte> span) {
    return std::vector<std::byte>(span.begin(), span.end());
  };
  EXPECT_EQ(a.cfa_is_expression, b.cfa_is_expression);
  EXPECT_EQ(a.cfa_register, b.cfa_register);
  EXPECT_EQ(a.cfa_offset, b.cfa_offset);
  EXPECT_EQ(bytes(a.cfa_expression), bytes(b.cfa_expression));
  ASSERT_EQ(a.registers.size(), b.registers.size());
  for (size_t i = 0; i < a.registers.size(); ++i) {
    EXPECT_EQ(a.registers[i].number, b.registers[i].number);
    EXPECT_EQ(a.registers[i].kind, b.registers[i].kind);
    EXPECT_EQ(a.registers[i].value, b.registers[i].value);
    EXPECT_EQ(bytes(a_in.Expression(a.registers[i])), bytes(b_in.Expression(b.registers[i])));
  }
}

TEST(SingleRules, AreThoseOfTheTableAtEveryRow) {
  LiveFiles files;
  BinaryCache binaries(&files);
  const auto large = LargeBinaries(&binaries);
  ASSERT_GE(large.size(), 2u);
  size_t all_full = 0;
  for (const auto& binary : large) {
    const UnwindRules table = UnwindRulesBuilder::Build(*binary->elf());
    const std::unique_ptr<SingleRules> single = SingleRules::Open(*binary->elf());
    size_t rows = 0;
    size_t answered = 0;
    size_t has_rule = 0;
    size_t full = 0;
    const auto compare = [&](uint64_t address) {
      const UnwindRule& expected = table.Find(address);
      ++rows;
      has_rule += expected.kind != UnwindRule::kNone;
      const std::optional<UnwindRule> rule = single->Find(address);
      if (!rule.has_value()) return;
      ++answered;
      if (expected.kind == UnwindRule::kFull) {
        ++full;
        ASSERT_EQ(rule->kind, UnwindRule::kFull);
        EXPECT_EQ(rule->flags, expected.flags);
        ASSERT_EQ(rule->full, UnwindRule::kByAddress);
        const auto alone = single->FindFull(address);
        ASSERT_NE(alone, nullptr);
        ASSERT_EQ(alone->full_rules(), 1u);
        ExpectSame(*alone, alone->Full(0), table, table.Full(expected.full));
        return;
      }
      ASSERT_EQ(*rule, expected) << binary->path() << " at " << std::hex << address;
      if (rows % 16 == 0) {
        EXPECT_EQ(single->FindFull(address), nullptr);
      }
    };
    table.ForEachRow([&](uint64_t address, const UnwindRule&) {
      compare(address);
      compare(address - 1);
    });
    EXPECT_GT(rows, 5000u) << binary->path();
    EXPECT_GT(answered, has_rule * 98 / 100) << binary->path() << " of " << rows;
    all_full += full;
  }
  EXPECT_GT(all_full, 0u);
}

TEST(SingleRules, AFullRuleTakesNoTable) {
  LiveFiles files;
  BinaryCache binaries(&files);
  size_t tried = 0;
  for (const auto& binary : LargeBinaries(&binaries)) {
    const UnwindRules expected = UnwindRulesBuilder::Build(*binary->elf());
    RuleTables tables;
    RuleTables whole;
    whole.Get(binary);
    size_t of_binary = 0;
    expected.ForEachRow([&](uint64_t at, const UnwindRule& rule) {
      if (rule.kind != UnwindRule::kFull || ++of_binary > 20) return;
      ++tried;
      EXPECT_EQ(tables.Find(binary, at).full, UnwindRule::kByAddress);
      uint32_t number = 7;
      const auto alone = tables.FindFull(binary, at, &number);
      ExpectSame(*alone, alone->Full(number), expected, expected.Full(rule.full));
      // Who has the table has it from there, also for what was remembered before.
      const auto numbered = whole.FindFull(binary, at, &number);
      EXPECT_EQ(number, rule.full);
      ExpectSame(*numbered, numbered->Full(number), expected, expected.Full(rule.full));
    });
    EXPECT_EQ(tables.stats().built, 0u);
    EXPECT_EQ(whole.stats().built, 1u);
  }
  EXPECT_GT(tried, 0u);
}

TEST(SingleRules, FullRulesAreKeptAndCounted) {
  LiveFiles files;
  BinaryCache binaries(&files);
  size_t tried = 0;
  for (const auto& binary : LargeBinaries(&binaries)) {
    std::optional<uint64_t> address;
    UnwindRulesBuilder::Build(*binary->elf()).ForEachRow([&](uint64_t at, const UnwindRule& rule) {
      if (rule.kind == UnwindRule::kFull && !address.has_value()) address = at;
    });
    if (!address.has_value()) continue;
    ++tried;
    const std::unique_ptr<SingleRules> single = SingleRules::Open(*binary->elf());
    EXPECT_EQ(single->Find(*address)->full, UnwindRule::kByAddress);
    const size_t before = single->bytes();
    const auto full = single->FindFull(*address);
    ASSERT_NE(full, nullptr);
    EXPECT_EQ(single->bytes(), before + full->bytes());
    EXPECT_EQ(single->FindFull(*address), full);
    EXPECT_EQ(single->bytes(), before + full->bytes());
  }
  EXPECT_GT(tried, 0u);
}

TEST(SingleRules, NoMoreFullRulesAreKeptThanThereIsRoomFor) {
  LiveFiles files;
  BinaryCache binaries(&files);
  // gRPC needs it; its assembly has the most of them.
  const auto binary = binaries.Get(1, {.path = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"});
  ASSERT_TRUE(binary->readable()) << binary->problem();
  // Each address has one of its own, all of a row the same.
  std::vector<uint64_t> addresses;
  std::optional<uint64_t> begin;
  UnwindRulesBuilder::Build(*binary->elf()).ForEachRow([&](uint64_t at, const UnwindRule& rule) {
    while (begin.has_value() && *begin < at) addresses.push_back((*begin)++);
    begin.reset();
    if (rule.kind == UnwindRule::kFull) begin = at;
  });
  const std::unique_ptr<SingleRules> single = SingleRules::Open(*binary->elf());
  for (const uint64_t address : addresses) single->Find(address);
  const size_t beside = single->bytes();  // all that is read for them
  size_t all = 0;
  size_t most = 0;
  size_t largest = 0;
  for (const uint64_t address : addresses) {
    const auto full = single->FindFull(address);
    ASSERT_NE(full, nullptr) << address;
    all += full->bytes();
    largest = std::max(largest, full->bytes());
    most = std::max(most, single->bytes() - beside);
    EXPECT_EQ(single->FindFull(address), full);
  }
  EXPECT_GT(all, 2 * SingleRules::kMaxFullBytes);
  EXPECT_GE(most, SingleRules::kMaxFullBytes);
  EXPECT_LT(most, SingleRules::kMaxFullBytes + largest);
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
  EXPECT_EQ(tables.Find(binary, address), expected.Find(address));
  EXPECT_EQ(tables.stats().built, 0u);
  EXPECT_EQ(tables.stats().tables, 0u);
  const size_t without = tables.stats().bytes;
  EXPECT_GT(without, 0u) << "what it has read is under the budget";
  EXPECT_LT(without, SingleRules::kMinBytes) << "what it need not read it does not";
  EXPECT_EQ(tables.Find(binary, address), expected.Find(address));
  EXPECT_EQ(tables.stats().bytes, without) << "what was read is not read again";
  for (size_t i = 0; i <= SingleRules::kMaxBytes / SingleRules::kBytesPerLookUp; ++i) {
    ASSERT_EQ(tables.Find(binary, address), expected.Find(address));
    if (tables.stats().built != 0) break;
  }
  EXPECT_EQ(tables.stats().built, 1u);
  EXPECT_EQ(tables.stats().tables, 1u);
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
