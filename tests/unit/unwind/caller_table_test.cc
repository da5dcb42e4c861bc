#include "unwind/caller_table.h"

#include <gtest/gtest.h>

#include <random>

namespace lbrd::unwind {
namespace {

constexpr uint64_t kSpace = 7;

TEST(CallerTable, OneCallerIsSureAfterEnoughSightings) {
  CallerTable table;
  EXPECT_EQ(table.OnlyCaller(kSpace, 0x1000), 0u);
  for (uint32_t i = 1; i < CallerTable::kEnough; ++i) table.Saw(kSpace, 0x1000, 0x2000);
  EXPECT_EQ(table.OnlyCaller(kSpace, 0x1000), 0x2000u);
  EXPECT_FALSE(table.IsOnlyCaller(kSpace, 0x1000, 0x2000));
  EXPECT_TRUE(table.IsOnlyCaller(kSpace, 0x1000, 0x2000, 1));
  table.Saw(kSpace, 0x1000, 0x2000);
  EXPECT_TRUE(table.IsOnlyCaller(kSpace, 0x1000, 0x2000));
  EXPECT_FALSE(table.IsOnlyCaller(kSpace, 0x1000, 0x3000));
  EXPECT_FALSE(table.IsOnlyCaller(kSpace + 1, 0x1000, 0x2000)) << "of another address space";
}

TEST(CallerTable, ASecondCallerIsNeverForgotten) {
  CallerTable table;
  table.Saw(kSpace, 0x1000, 0x2000);
  table.Saw(kSpace, 0x1000, 0x3000);
  for (int i = 0; i < 100; ++i) table.Saw(kSpace, 0x1000, 0x2000);
  EXPECT_EQ(table.OnlyCaller(kSpace, 0x1000), 0u);
  EXPECT_FALSE(table.IsOnlyCaller(kSpace, 0x1000, 0x2000, 1));
}

// What a stack needs that is stitched again and again: its base is not seen any more, and its
// functions are, beside those of everything else that runs.
TEST(CallerTable, WhatIsAskedForStaysBesideManyOthers) {
  CallerTable table;
  constexpr uint64_t kChain = 64;
  const auto function = [](uint64_t i) { return 0x400000 + 0x52 * i; };
  for (uint64_t i = 0; i < kChain; ++i) {
    table.Saw(kSpace, function(i), function(i) + 8);
    table.OnlyCaller(kSpace, function(i));
  }
  std::mt19937_64 random(3);
  uint64_t lost = 0;
  for (int round = 0; round < 200; ++round) {
    for (int other = 0; other < 3'000; ++other) {
      const uint64_t of = 0x7f0000000000 + (random() % 100'000) * 0x40;
      table.Saw(kSpace + random() % 20, of, of + 1);
    }
    for (uint64_t i = 0; i < kChain; ++i) {
      lost += table.OnlyCaller(kSpace, function(i)) != function(i) + 8;
    }
  }
  EXPECT_EQ(lost, 0u);
}

}  // namespace
}  // namespace lbrd::unwind
