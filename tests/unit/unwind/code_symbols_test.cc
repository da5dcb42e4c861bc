#include "unwind/code_symbols.h"

#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lbrd::unwind {
namespace {

class CodeSymbolsTest : public testing::Test {
 protected:
  std::string NameAt(uint64_t address, uint64_t time_ns = UINT64_MAX) const {
    const std::optional<CodeSymbol> found = symbols_.Find(address, time_ns);
    return found.has_value() ? std::string(found->name) : "";
  }
  CodeBudget budget_;
  CodeSymbols symbols_{&budget_};
};

TEST_F(CodeSymbolsTest, NamesWhatStoodThereThen) {
  EXPECT_TRUE(symbols_.Add(0x1000, 0x100, "first", 10));
  EXPECT_TRUE(symbols_.Add(0x1000, 0x80, "second", 20));
  symbols_.Remove(0x1000, 0x40, 30);
  EXPECT_EQ(NameAt(0x1000, 9), "");
  EXPECT_EQ(NameAt(0x1000, 10), "first");
  EXPECT_EQ(NameAt(0x10ff, 15), "first");
  EXPECT_EQ(NameAt(0x1100, 15), "");
  EXPECT_EQ(NameAt(0x1000, 20), "second");
  EXPECT_EQ(NameAt(0x1080, 20), "first");
  EXPECT_EQ(NameAt(0x1000, 30), "");
  EXPECT_EQ(NameAt(0x1040, 30), "second");
  EXPECT_EQ(symbols_.Find(0x1040, 30)->start, 0x1000u);
  // What is told late counts from its own time all the same.
  EXPECT_TRUE(symbols_.Add(0x1000, 0x100, "between", 15));
  EXPECT_EQ(NameAt(0x1000, 14), "first");
  EXPECT_EQ(NameAt(0x1000, 15), "between");
  EXPECT_EQ(NameAt(0x1000, 20), "second");
}

TEST_F(CodeSymbolsTest, PiecesWithoutATimeReplaceEachOther) {
  symbols_.Add(0x1000, 0x100, "old", 0);
  const uint64_t old_id = symbols_.Find(0x1000, 0)->id;
  symbols_.Add(0x1040, 0x10, "inner", 0);
  symbols_.Add(0x0f00, 0x120, "over", 0);
  EXPECT_EQ(NameAt(0x0f00), "over");
  EXPECT_EQ(NameAt(0x101f), "over");
  EXPECT_EQ(NameAt(0x1020), "old");
  EXPECT_EQ(NameAt(0x1045), "inner");
  EXPECT_EQ(NameAt(0x1050), "old");
  EXPECT_EQ(symbols_.Find(0x1050, 0)->id, old_id);
  EXPECT_NE(symbols_.Find(0x1000, 0)->id, old_id);
}

TEST_F(CodeSymbolsTest, MovesCodeWithItsLines) {
  const std::optional<uint32_t> file = symbols_.AddFile("a.js");
  ASSERT_TRUE(file.has_value());
  symbols_.Add(0x1000, 0x100, "f", 10, {{0x1000, *file, 3}, {0x1010, *file, 4}});
  EXPECT_TRUE(symbols_.Move(0x1000, 0x8000, 20));
  EXPECT_FALSE(symbols_.Move(0x1000, 0x9000, 30));
  EXPECT_FALSE(symbols_.Move(0x8001, 0x9000, 30));
  EXPECT_EQ(NameAt(0x1000, 19), "f");
  EXPECT_EQ(NameAt(0x1000, 20), "");
  const std::optional<CodeSymbol> moved = symbols_.Find(0x8011, 20);
  ASSERT_TRUE(moved.has_value());
  EXPECT_EQ(moved->name, "f");
  EXPECT_EQ(moved->file, "a.js");
  EXPECT_EQ(moved->line, 4u);
  EXPECT_EQ(symbols_.Find(0x1004, 15)->line, 3u);
}

TEST_F(CodeSymbolsTest, RefusesWhatIsNoCode) {
  EXPECT_FALSE(symbols_.Add(0x1000, 0, "empty", 0));
  EXPECT_FALSE(symbols_.Add(UINT64_MAX, 2, "wraps", 0));
  symbols_.Remove(0x1000, 0, 0);
  EXPECT_TRUE(symbols_.empty());
}

TEST(CodeBudgetTest, BoundsAllTablesTogether) {
  CodeBudget budget(10'000);
  CodeSymbols kept(&budget);
  {
    CodeSymbols full(&budget);
    uint64_t added = 0;
    while (full.Add(0x1000 + added * 16, 16, "name", 0)) ++added;
    EXPECT_GT(added, 10u);
    EXPECT_EQ(full.refused(), 1u);
    EXPECT_LE(budget.used(), 10'200u);
    EXPECT_FALSE(kept.Add(0x1000, 16, std::string(400, 'x'), 0));
  }
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_TRUE(kept.Add(0x1000, 16, "name", 0));
}

// Against a table of bytes.
TEST_F(CodeSymbolsTest, AgreesWithAMapOfEveryByte) {
  std::mt19937 random(5);
  std::vector<std::string> bytes(4096);
  for (int i = 0; i < 3000; ++i) {
    const uint64_t start = random() % 4000;
    const uint64_t size = 1 + random() % 96;
    const bool remove = random() % 5 == 0;
    const std::string name = remove ? "" : absl::StrCat("f", i);
    remove ? symbols_.Remove(start, size, static_cast<uint64_t>(i))
           : static_cast<void>(symbols_.Add(start, size, name, static_cast<uint64_t>(i)));
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(start), size, name);
    for (int k = 0; k < 20; ++k) {
      const uint64_t at = random() % bytes.size();
      ASSERT_EQ(NameAt(at), bytes[at]) << at << " after " << i;
    }
  }
}

TEST_F(CodeSymbolsTest, AWidePieceForgetsThePastOfManyNarrowOnes) {
  for (uint64_t i = 0; i < 1000; ++i) symbols_.Add(0x1000 + i * 16, 16, "narrow", i);
  symbols_.Add(0x1000, 16'000, "wide", 5000);
  EXPECT_EQ(NameAt(0x1000), "wide");
  EXPECT_EQ(NameAt(0x1000 + 15'999), "wide");
  EXPECT_EQ(NameAt(0x1000, 4999), "");
}

}  // namespace
}  // namespace lbrd::unwind
