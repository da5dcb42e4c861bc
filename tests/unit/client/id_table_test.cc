#include "client/id_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace lbrd::client {
namespace {

struct Definition {
  uint64_t number;
  uint64_t id() const { return number; }
};

IdTable Of(const std::vector<Definition>& definitions, uint32_t* bad) {
  return IdTable::Of(definitions, bad);
}

// As a daemon numbers them, and as far apart as numbers can be.
const std::vector<std::vector<Definition>> kGood = {{},
                                                    {{1}},
                                                    {{7}, {5}, {6}},
                                                    {{3}, {100}, {2}},
                                                    {{1}, {uint64_t{1} << 40}, {3}},
                                                    {{UINT64_MAX}, {1}},
                                                    {{UINT64_MAX}}};

TEST(IdTable, FindsEachWhereItStands) {
  for (const std::vector<Definition>& definitions : kGood) {
    uint32_t bad = 0;
    const IdTable table = Of(definitions, &bad);
    EXPECT_EQ(bad, IdTable::kNone);
    for (uint32_t i = 0; i < definitions.size(); ++i) {
      EXPECT_EQ(table.Find(definitions[i].number), i);
    }
  }
}

TEST(IdTable, FindsNothingElse) {
  for (const std::vector<Definition>& definitions : kGood) {
    uint32_t bad = 0;
    const IdTable table = Of(definitions, &bad);
    for (const uint64_t id : {uint64_t{0}, uint64_t{4}, uint64_t{99}, UINT64_MAX - 1}) {
      EXPECT_FALSE(table.contains(id)) << id;
    }
  }
}

TEST(IdTable, SaysWhichComesTwiceOrIsZero) {
  uint32_t bad = IdTable::kNone;
  Of({{1}, {2}, {1}}, &bad);
  EXPECT_EQ(bad, 2u);
  Of({{1}, {uint64_t{1} << 50}, {1}}, &bad);
  EXPECT_EQ(bad, 2u);
  Of({{1}, {0}, {2}}, &bad);
  EXPECT_EQ(bad, 1u);
  Of({{uint64_t{1} << 50}, {0}}, &bad);
  EXPECT_EQ(bad, 1u);
}

}  // namespace
}  // namespace lbrd::client
