#include "unwind/rule_tables.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/unwind/live_process.h"

namespace lbrd::unwind {
namespace {

class RuleTablesTest : public testing::Test {
 protected:
  // Binaries with rules that this program has mapped.
  std::vector<std::shared_ptr<const Binary>> Mapped() {
    std::vector<std::shared_ptr<const Binary>> result;
    RuleTables tables;
    const AddressSpace space = LiveSpace(&binaries_);
    for (const Mapping& m : space.mappings()) {
      if (tables.Get(m.binary)->rows() > 0) result.push_back(m.binary);
    }
    return result;
  }
  LiveFiles files_;
  BinaryCache binaries_{&files_};
};

TEST_F(RuleTablesTest, BuildsEachTableOnce) {
  RuleTables tables;
  const auto binary = Mapped().at(0);
  const auto rules = tables.Get(binary);
  EXPECT_EQ(tables.Get(binary), rules);
  EXPECT_EQ(tables.stats().built, 1u);
  EXPECT_EQ(tables.stats().bytes, rules->bytes());
}

TEST_F(RuleTablesTest, WhatHasNoFileHasAnEmptyTable) {
  RuleTables tables;
  const auto none = std::make_shared<Binary>(FileIdentity{.path = "/gone"}, "gone");
  EXPECT_EQ(tables.Get(none)->rows(), 0u);
  EXPECT_EQ(tables.Get(none)->Find(0x1000).kind, UnwindRule::kNone);
  EXPECT_EQ(tables.stats().built, 1u);
}

TEST_F(RuleTablesTest, TheLongestUnusedGoesFirst) {
  const auto mapped = Mapped();
  ASSERT_GE(mapped.size(), 3u);
  RuleTables sizes;
  const size_t budget = sizes.Get(mapped[0])->bytes() + sizes.Get(mapped[1])->bytes();
  RuleTables tables(budget);
  const auto held = tables.Get(mapped[0]);
  tables.Get(mapped[1]);
  EXPECT_EQ(tables.stats().evicted, 0u);
  tables.Get(mapped[0]);  // now the other one is the oldest
  tables.Get(mapped[2]);
  EXPECT_GE(tables.stats().evicted, 1u);
  EXPECT_LE(tables.stats().bytes, std::max(budget, sizes.Get(mapped[2])->bytes()));
  // One that somebody holds stays whole, and is built again for others.
  EXPECT_GT(held->rows(), 0u);
  const uint64_t built = tables.stats().built;
  EXPECT_GT(tables.Get(mapped[1])->rows(), 0u);
  EXPECT_EQ(tables.stats().built, built + 1);
}

TEST_F(RuleTablesTest, TablesOfBinariesThatAreGoneGoFirst) {
  const auto mapped = Mapped();
  RuleTables sizes;
  auto gone = std::make_shared<Binary>(FileIdentity{.path = "/gone"}, "gone");
  RuleTables tables(sizes.Get(mapped[0])->bytes() + sizes.Get(gone)->bytes());
  tables.Get(mapped[0]);
  tables.Get(gone);  // younger
  gone = nullptr;
  const auto other = std::make_shared<Binary>(FileIdentity{.path = "/other"}, "other");
  tables.Get(other);
  EXPECT_EQ(tables.stats().evicted, 1u);
  tables.Get(mapped[0]);
  EXPECT_EQ(tables.stats().built, 3u) << "it was still there";
}

TEST_F(RuleTablesTest, OneTableLargerThanTheBudgetIsKeptAlone) {
  const auto mapped = Mapped();
  RuleTables tables(1);
  EXPECT_GT(tables.Get(mapped[0])->rows(), 0u);
  EXPECT_EQ(tables.stats().tables, 1u);
  EXPECT_GT(tables.Get(mapped[1])->rows(), 0u);
  EXPECT_EQ(tables.stats().tables, 1u);
  EXPECT_EQ(tables.stats().evicted, 1u);
}

TEST_F(RuleTablesTest, AnAddressUsedAgainIsAnotherBinary) {
  RuleTables tables;
  alignas(Binary) static std::byte place[sizeof(Binary)];
  const auto made = [&](const char* path) {
    return std::shared_ptr<const Binary>(new (place) Binary(FileIdentity{.path = path}, "made up"),
                                         [](const Binary* b) { b->~Binary(); });
  };
  auto binary = made("/one");
  tables.Get(binary);
  binary = nullptr;
  binary = made("/two");
  tables.Get(binary);
  EXPECT_EQ(tables.stats().built, 2u);
  EXPECT_EQ(tables.stats().tables, 1u);
}

TEST_F(RuleTablesTest, ManyThreadsShareATable) {
  const auto mapped = Mapped();
  RuleTables tables;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (const auto& binary : mapped) EXPECT_GT(tables.Get(binary)->rows(), 0u);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(tables.stats().built, mapped.size());
}

}  // namespace
}  // namespace lbrd::unwind
