// Call frame information made up here, compiled to rules: what each instruction does, and what
// hostile input does not. Real binaries: unwind_rules_readelf_test.cc.
#include "unwind/unwind_rules.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "unwind/unwind_rules_builder.h"
#include "unwind/x86_64.h"

namespace lbrd::unwind {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr uint64_t kCode = 0x10000;
constexpr uint64_t kCodeEnd = 0x80000;
constexpr uint64_t kSectionAddress = 0x100000;

// Builds a section entry by entry.
class Section {
 public:
  explicit Section(bool debug_frame = false) : debug_frame_(debug_frame) {}

  void U32(uint32_t v) {
    for (int i = 0; i < 4; ++i) bytes_.push_back(static_cast<std::byte>(v >> (8 * i)));
  }
  void U64(uint64_t v) {
    U32(static_cast<uint32_t>(v));
    U32(static_cast<uint32_t>(v >> 32));
  }
  void Add(const std::string& bytes) {
    for (const char c : bytes) bytes_.push_back(static_cast<std::byte>(c));
  }

  // A CIE of absolute 8-byte pointers: CFA = rsp + 8, the return address below it. Its offset.
  size_t Cie(const std::string& augmentation = "zR",
             const std::string& instructions = std::string("\x0c\x07\x08\x90\x01", 5),
             char return_register = 16) {
    const size_t at = bytes_.size();
    std::string body =
        debug_frame_ ? std::string("\xff\xff\xff\xff\x01", 5) : std::string("\0\0\0\0\x01", 5);
    body += augmentation + std::string(1, '\0') + std::string("\x01\x78", 2) + return_register;
    if (!augmentation.empty() && augmentation[0] == 'z') body += std::string("\x01\x00", 2);
    body += instructions;
    U32(static_cast<uint32_t>(body.size()));
    Add(body);
    return at;
  }
  void Fde(size_t cie, uint64_t start, uint64_t size, const std::string& instructions) {
    U32(static_cast<uint32_t>(4 + 8 + 8 + (debug_frame_ ? 0 : 1) + instructions.size()));
    U32(static_cast<uint32_t>(debug_frame_ ? cie : bytes_.size() - cie));
    U64(start);
    U64(size);
    if (!debug_frame_) Add(std::string(1, '\0'));  // no augmentation data
    Add(instructions);
  }
  CfiSection get() const { return {bytes_, kSectionAddress, debug_frame_}; }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  const bool debug_frame_;
  std::vector<std::byte> bytes_;
};

UnwindRules Build(const Section& section) {
  UnwindRulesBuilder builder(kCode, kCodeEnd);
  builder.Add(section.get());
  return builder.Finish();
}

UnwindRules OneFunction(const std::string& instructions) {
  Section section;
  const size_t cie = section.Cie();
  section.Fde(cie, kCode + 0x100, 0x100, instructions);
  return Build(section);
}
const uint64_t kFunction = kCode + 0x100;

std::string Bytes(std::initializer_list<int> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(UnwindRulesTest, FollowsAPrologueAndAnEpilogue) {
  // +1: push rbp; +4: rbp is the frame; remember; +9: leave; restore; +1
  const UnwindRules rules = OneFunction(
      Bytes({0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x0a, 0x49, 0xc6, 0x0c, 7, 8, 0x41, 0x0b}));
  const auto at = [&](uint64_t offset) { return rules.Find(kFunction + offset); };
  EXPECT_EQ(rules.Find(kFunction - 1).kind, UnwindRule::kNone);
  EXPECT_EQ(at(0).kind, UnwindRule::kOffsets);
  EXPECT_EQ(at(0).cfa_register, x86_64::kRsp);
  EXPECT_EQ(at(0).cfa_offset, 8);
  EXPECT_EQ(at(0).return_address, -1);
  EXPECT_THAT(at(0).saved, Each(UnwindRule::kSame));
  EXPECT_EQ(at(1).cfa_offset, 16);
  EXPECT_EQ(at(3).saved[0], -2);
  EXPECT_EQ(at(4).cfa_register, x86_64::kRbp);
  EXPECT_EQ(at(12).cfa_register, x86_64::kRbp);
  EXPECT_EQ(at(13), at(0));
  EXPECT_EQ(at(14), at(4));
  EXPECT_EQ(at(0xff), at(4));
  EXPECT_EQ(at(0x100).kind, UnwindRule::kNone);
  // Five rows and the end; equal rules stand once (none, unsupported, and three).
  EXPECT_EQ(rules.rows(), 6u);
  EXPECT_EQ(rules.rules(), 5u);
}

TEST(UnwindRulesTest, AdvancesInAllWays) {
  const UnwindRules rules = OneFunction(Bytes(
      {0x02, 2, 0x0e, 16, 0x03, 2,    0,  0x0e, 24,   0x04, 2, 0, 0, 0, 0x0e, 32, 0x1d, 2, 0, 0,
       0,    0, 0,    0,  0,    0x0e, 40, 0x01, 0x20, 0x01, 1, 0, 0, 0, 0,    0,  0x0e, 48}));
  std::vector<std::pair<uint64_t, int32_t>> rows;
  rules.ForEachRow([&](uint64_t address, const UnwindRule& rule) {
    if (rule.kind == UnwindRule::kOffsets) rows.emplace_back(address, rule.cfa_offset);
  });
  EXPECT_THAT(rows, ElementsAre(std::pair(kFunction, 8), std::pair(kFunction + 2, 16),
                                std::pair(kFunction + 4, 24), std::pair(kFunction + 6, 32),
                                std::pair(kFunction + 8, 40), std::pair(kFunction + 0x20, 48)));
}

TEST(UnwindRulesTest, FindsRowsOfEarlierPages) {
  Section section;
  const size_t cie = section.Cie();
  section.Fde(cie, kCode + 0x10, 0x40000, Bytes({0x41, 0x0e, 16}));
  section.Fde(cie, kCode + 0x50000, 0x10, Bytes({0x0e, 24}));
  const UnwindRules rules = Build(section);
  EXPECT_EQ(rules.Find(kCode + 0xf).kind, UnwindRule::kNone);
  EXPECT_EQ(rules.Find(kCode + 0x30000).cfa_offset, 16);
  EXPECT_EQ(rules.Find(kCode + 0x4000f).cfa_offset, 16);
  EXPECT_EQ(rules.Find(kCode + 0x40010).kind, UnwindRule::kNone);
  EXPECT_EQ(rules.Find(kCode + 0x5000f).cfa_offset, 24);
  EXPECT_EQ(rules.Find(kCodeEnd - 1).kind, UnwindRule::kNone);
  EXPECT_EQ(rules.Find(kCodeEnd + 0x1000000).kind, UnwindRule::kNone);
  EXPECT_EQ(rules.Find(0).kind, UnwindRule::kNone);
  EXPECT_EQ(rules.Find(~uint64_t{0}).kind, UnwindRule::kNone);
  EXPECT_EQ(UnwindRules().Find(kCode).kind, UnwindRule::kNone);
}

TEST(UnwindRulesTest, WhatSixteenBytesDoNotHoldIsAFullRule) {
  // rbp at CFA - 2048; the return address in rdx; r12 undefined; rbx = CFA - 16; r13 by
  // expressions.
  const UnwindRules rules =
      OneFunction(Bytes({0x86, 0x80, 0x02, 0x09, 16,   1,  0x07, 12,   0x14, 3, 2,    0x10,
                         13,   1,    0x96, 0x41, 0x16, 13, 1,    0x96, 0x0f, 2, 0x77, 8}));
  const UnwindRule rule = rules.Find(kFunction);
  ASSERT_EQ(rule.kind, UnwindRule::kFull);
  const FullRule full = rules.Full(rule.full);
  EXPECT_FALSE(full.cfa_is_expression);
  EXPECT_EQ(full.cfa_register, x86_64::kRsp);
  EXPECT_EQ(full.cfa_offset, 8);
  using Kind = CfiRegisterRule::Kind;
  const auto find = [&](const FullRule& in, uint8_t number) {
    for (const FullRule::Register& reg : in.registers) {
      if (reg.number == number) return reg;
    }
    return FullRule::Register();
  };
  EXPECT_EQ(find(full, 6).kind, Kind::kAtOffset);
  EXPECT_EQ(find(full, 6).value, -2048);
  EXPECT_EQ(find(full, 16).kind, Kind::kRegister);
  EXPECT_EQ(find(full, 16).value, 1);
  EXPECT_EQ(find(full, 12).kind, Kind::kUndefined);
  EXPECT_EQ(find(full, 3).kind, Kind::kOffset);
  EXPECT_EQ(find(full, 3).value, -16);
  EXPECT_EQ(find(full, 13).kind, Kind::kAtExpression);
  EXPECT_THAT(rules.Expression(find(full, 13)), ElementsAre(std::byte{0x96}));
  const FullRule second = rules.Full(rules.Find(kFunction + 1).full);
  EXPECT_TRUE(second.cfa_is_expression);
  EXPECT_THAT(second.cfa_expression, ElementsAre(std::byte{0x77}, std::byte{8}));
  EXPECT_EQ(find(second, 13).kind, Kind::kExpression);
  EXPECT_THAT(rules.Full(1000).registers, testing::IsEmpty());
}

TEST(UnwindRulesTest, KnowsThePlt) {
  const UnwindRules rules =
      OneFunction(Bytes({0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}));
  EXPECT_EQ(rules.Find(kFunction).kind, UnwindRule::kPlt);
  EXPECT_EQ(rules.Find(kFunction).plt_pushed_from, 11);
}

TEST(UnwindRulesTest, KnowsThreadStartsAndSignalFrames) {
  const UnwindRules start = OneFunction(Bytes({0x07, 16}));
  EXPECT_EQ(start.Find(kFunction).flags, UnwindRule::kThreadStart);
  Section section;
  const size_t cie = section.Cie("zRS");
  section.Fde(cie, kFunction, 0x10, "");
  EXPECT_EQ(Build(section).Find(kFunction).flags, UnwindRule::kSignalFrame);
}

TEST(UnwindRulesTest, WhatIsNotUnderstoodBeginsWhereItStands) {
  const std::vector<std::string> kBad = {
      Bytes({0x3f}),                          // no such instruction
      Bytes({0x17}),                          //
      Bytes({0x0b}),                          // nothing to restore
      Bytes({0x0e}),                          // cut off
      Bytes({0x0f, 100, 1}),                  // an expression beyond the end
      Bytes({0x01, 0, 0, 0, 0, 0, 0, 0, 0}),  // backwards
      Bytes({0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
             0x80, 0x80, 0x80, 0x80}),
      std::string(CfiProgram::kMaxRemembered + 1, '\x0a'),
  };
  for (const std::string& bad : kBad) {
    const UnwindRules rules = OneFunction(Bytes({0x44, 0x0e, 16, 0x44}) + bad);
    EXPECT_EQ(rules.Find(kFunction + 3).cfa_offset, 8);
    EXPECT_EQ(rules.Find(kFunction + 7).cfa_offset, 16);
    EXPECT_EQ(rules.Find(kFunction + 8).kind, UnwindRule::kUnsupported);
    EXPECT_EQ(rules.Find(kFunction + 0xff).kind, UnwindRule::kUnsupported);
    EXPECT_EQ(rules.Find(kFunction + 0x100).kind, UnwindRule::kNone);
  }
}

TEST(UnwindRulesTest, RowsWithoutACfaOrReturnAddressAreNotUnderstood) {
  Section no_cfa;
  no_cfa.Fde(no_cfa.Cie("zR", ""), kFunction, 0x10, "");
  EXPECT_EQ(Build(no_cfa).Find(kFunction).kind, UnwindRule::kUnsupported);
  Section no_return;
  no_return.Fde(no_return.Cie("zR", Bytes({0x0c, 7, 8})), kFunction, 0x10, "");
  EXPECT_EQ(Build(no_return).Find(kFunction).kind, UnwindRule::kUnsupported);
  Section other_column;
  other_column.Fde(other_column.Cie("zR", Bytes({0x0c, 7, 8, 0x90, 1}), 8), kFunction, 0x10, "");
  EXPECT_EQ(Build(other_column).Find(kFunction).kind, UnwindRule::kUnsupported);
  EXPECT_EQ(OneFunction(Bytes({0x0d, 17})).Find(kFunction).kind, UnwindRule::kUnsupported);
}

TEST(UnwindRulesTest, HugeAdvancesEndTheFunction) {
  for (const std::string& advance :
       {Bytes({0x04, 0xff, 0xff, 0xff, 0xff}),
        Bytes({0x1d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})}) {
    const UnwindRules rules = OneFunction(advance + Bytes({0x0e, 99}));
    EXPECT_EQ(rules.Find(kFunction + 0xff).cfa_offset, 8);
    EXPECT_EQ(rules.Find(kFunction + 0x100).kind, UnwindRule::kNone);
  }
  // One that goes round.
  EXPECT_EQ(OneFunction(Bytes({0x1d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0e, 99}))
                .Find(kFunction + 1)
                .kind,
            UnwindRule::kUnsupported);
}

TEST(UnwindRulesTest, EntriesThatCannotBeReadAreLeftOut) {
  Section section;
  const size_t good = section.Cie();
  const size_t unknown_letter = section.Cie("zRQ");
  const size_t old = section.Cie("eh");
  section.Fde(unknown_letter, kCode + 0x200, 0x10, "");
  section.Fde(old, kCode + 0x300, 0x10, "");
  section.Fde(good, kCodeEnd + 0x100, 0x10, "");                 // where no code is
  section.Fde(good, 0, 0x10, "");                                // dropped by the linker
  section.Fde(good, kCode + 0x400, 0, "");                       // of nothing
  section.Fde(good, kCode + 0x500, ~uint64_t{0}, "");            // goes round
  section.Fde(section.bytes().size(), kCode + 0x600, 0x10, "");  // its own CIE
  section.U32(0);                                                // a terminator in between
  section.Fde(good, kCode + 0x700, 0x10, "");
  section.U32(0x7fffffff);  // beyond the end
  const UnwindRules rules = Build(section);
  for (uint64_t at = 0; at < 0x700; at += 0x10) {
    EXPECT_EQ(rules.Find(kCode + at).kind, UnwindRule::kNone) << at;
  }
  EXPECT_EQ(rules.Find(kCode + 0x700).kind, UnwindRule::kOffsets);
  EXPECT_EQ(rules.rows(), 2u);
}

TEST(UnwindRulesTest, OfTwoThatOverlapTheLaterStartHolds) {
  Section section;
  const size_t cie = section.Cie();
  section.Fde(cie, kFunction + 0x40, 0x10, Bytes({0x0e, 24}));
  section.Fde(cie, kFunction, 0x100, Bytes({0x0e, 16}));
  const UnwindRules rules = Build(section);
  EXPECT_EQ(rules.Find(kFunction + 0x3f).cfa_offset, 16);
  EXPECT_EQ(rules.Find(kFunction + 0x4f).cfa_offset, 24);
  EXPECT_EQ(rules.Find(kFunction + 0x50).kind, UnwindRule::kNone);
}

TEST(UnwindRulesTest, DebugFrameFillsWhatEhFrameLeaves) {
  Section eh;
  eh.Fde(eh.Cie(), kFunction, 0x10, Bytes({0x0e, 16}));
  Section debug(/*debug_frame=*/true);
  const size_t cie = debug.Cie("");
  debug.Fde(cie, kFunction + 8, 0x10, Bytes({0x0e, 32}));  // overlaps
  debug.Fde(cie, kFunction + 0x40, 0x10, Bytes({0x0e, 24}));
  UnwindRulesBuilder builder(kCode, kCodeEnd);
  builder.Add(eh.get());
  builder.Add(debug.get());
  const UnwindRules rules = builder.Finish();
  EXPECT_EQ(rules.Find(kFunction + 8).cfa_offset, 16);
  EXPECT_EQ(rules.Find(kFunction + 0x17).kind, UnwindRule::kNone);
  EXPECT_EQ(rules.Find(kFunction + 0x40).cfa_offset, 24);
}

TEST(UnwindRulesTest, AHeaderAloneLeadsToEntries) {
  Section section;
  const size_t cie = section.Cie();
  const size_t first = section.bytes().size();
  section.Fde(cie, kFunction, 0x10, Bytes({0x0e, 16}));
  Section header;
  const uint64_t header_address = kSectionAddress + 0x1000;
  header.Add(Bytes({1, 0x1b, 0x03, 0x3b}));
  header.U32(0);
  header.U32(1000);  // claims more than it has
  header.U32(static_cast<uint32_t>(kFunction - header_address));
  header.U32(static_cast<uint32_t>(kSectionAddress + first - header_address));
  header.U32(0);
  header.U32(0x7fffffff);  // nowhere
  UnwindRulesBuilder builder(kCode, kCodeEnd);
  builder.AddByHeader(section.get(), header.bytes(), header_address);
  const UnwindRules rules = builder.Finish();
  EXPECT_EQ(rules.Find(kFunction).cfa_offset, 16);
  EXPECT_EQ(rules.rows(), 2u);
}

// A CIE of a megabyte that a thousand functions share, and a thousand such CIEs' worth of work.
TEST(UnwindRulesTest, WorkIsBounded) {
  Section section;
  const std::string long_program = Bytes({0x0c, 7, 8, 0x90, 1}) + std::string(1 << 16, '\0');
  const size_t cie = section.Cie("zR", long_program);
  for (uint64_t i = 0; i < 1000; ++i) section.Fde(cie, kCode + 16 * i, 16, "");
  EXPECT_EQ(Build(section).Find(kCode + 16 * 999).kind, UnwindRule::kOffsets);

  // So many CIEs, taken in turn, that none is remembered.
  Section turns;
  std::vector<size_t> cies;
  for (size_t i = 0; i < UnwindRulesBuilder::kMaxCies + 1; ++i) {
    cies.push_back(turns.Cie("zR", Bytes({0x0c, 7, 8, 0x90, 1}) + std::string(64, '\0')));
  }
  for (uint64_t i = 0; i < 6 * cies.size(); ++i) {
    turns.Fde(cies[i % cies.size()], kCode + 8 * i, 8, "");
  }
  EXPECT_EQ(Build(turns).Find(kCode).kind, UnwindRule::kOffsets);
}

TEST(UnwindRulesTest, EveryCutAndEveryChangedByteIsSurvived) {
  Section section;
  const size_t cie = section.Cie("zRS");
  section.Fde(cie, kFunction, 0x100,
              Bytes({0x41, 0x0e, 16,   0x86, 2,    0x0a, 0x43, 0x0d, 6,    0x10, 3, 2,
                     0x77, 8,    0x0f, 2,    0x77, 0,    0x41, 0x0b, 0x16, 12,   1, 0x30}));
  const std::vector<std::byte> whole = section.bytes();
  for (size_t size = 0; size <= whole.size(); ++size) {
    section.bytes().assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    Build(section);
  }
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff, 0x3f, 0x0f}) {
      section.bytes() = whole;
      section.bytes()[at] = static_cast<std::byte>(value);
      const UnwindRules rules = Build(section);
      for (uint64_t address = kCode; address < kCodeEnd; address += 0x1111) rules.Find(address);
      rules.ForEachRow([&](uint64_t address, const UnwindRule&) {
        EXPECT_GE(address, kCode);
        EXPECT_LE(address, kCodeEnd);
      });
    }
  }
}

TEST(X8664Test, CallsBeforeAnAddress) {
  const auto ends = [](std::initializer_list<int> code) {
    std::vector<std::byte> bytes;
    for (const int byte : code) bytes.push_back(static_cast<std::byte>(byte));
    return x86_64::EndsInCall(bytes);
  };
  EXPECT_TRUE(ends({0x90, 0x90, 0xe8, 1, 2, 3, 4}));
  EXPECT_TRUE(ends({0x90, 0xff, 0xd0}));              // *%rax
  EXPECT_TRUE(ends({0x41, 0xff, 0xd4}));              // *%r12
  EXPECT_TRUE(ends({0xff, 0x10}));                    // *(%rax)
  EXPECT_TRUE(ends({0xff, 0x50, 8}));                 // *8(%rax)
  EXPECT_TRUE(ends({0xff, 0x15, 1, 2, 3, 4}));        // *x(%rip)
  EXPECT_TRUE(ends({0xff, 0x14, 0xc8}));              // *(%rax,%rcx,8)
  EXPECT_TRUE(ends({0xff, 0x14, 0xc5, 1, 2, 3, 4}));  // *x(,%rax,8)
  EXPECT_TRUE(ends({0xff, 0x94, 0xc8, 1, 2, 3, 4}));  // *x(%rax,%rcx,8)
  EXPECT_FALSE(ends({0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90}));
  EXPECT_FALSE(ends({0xff, 0xe0}));  // a jump
  EXPECT_FALSE(ends({0xe8, 1, 2, 3}));
  EXPECT_FALSE(ends({}));
}

}  // namespace
}  // namespace lbrd::unwind
