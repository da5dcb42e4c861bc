#include "daemon/branch_history.h"

#include <gtest/gtest.h>

#include <vector>

namespace lbrd::daemon {
namespace {

std::vector<pmu::Branch> Calls(size_t count) {
  std::vector<pmu::Branch> calls;
  for (size_t i = 0; i < count; ++i) {
    calls.push_back({.from = 0x7fff'1234'5678 - i, .to = 0x5555'0000'0000 + i, .flags = 0});
  }
  return calls;
}

TEST(BranchHistory, IsUnknownAtFirst) {
  EXPECT_TRUE(BranchHistory().empty());
  EXPECT_FALSE(BranchHistory().truncated());
}

TEST(BranchHistory, KeepsEveryAddress) {
  const std::vector<pmu::Branch> calls = Calls(BranchHistory::kMaxCalls);
  BranchHistory history;
  history.Store(7, calls);
  ASSERT_EQ(history.size(), calls.size());
  EXPECT_EQ(history.time_ns(), 7u);
  EXPECT_FALSE(history.truncated());
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(history.from(i), calls[i].from);
    EXPECT_EQ(history.to(i), calls[i].to);
  }
}

TEST(BranchHistory, KeepsTheCallsNearestTheLeaf) {
  const std::vector<pmu::Branch> calls = Calls(BranchHistory::kMaxCalls + 3);
  BranchHistory history;
  history.Store(7, calls);
  EXPECT_TRUE(history.truncated());
  ASSERT_EQ(history.size(), BranchHistory::kMaxCalls);
  EXPECT_EQ(history.from(0), calls[0].from);
}

TEST(BranchHistory, IsUnknownWhereAnAddressDoesNotFit) {
  BranchHistory history;
  history.Store(6, Calls(3));
  std::vector<pmu::Branch> calls = Calls(3);
  calls[2].to = uint64_t{1} << 47;
  history.Store(7, calls);
  EXPECT_TRUE(history.empty());
}

TEST(BranchHistory, IsUnknownOnceCleared) {
  BranchHistory history;
  history.Store(7, Calls(BranchHistory::kMaxCalls + 1));
  history.Clear();
  EXPECT_TRUE(history.empty());
  EXPECT_FALSE(history.truncated());
}

}  // namespace
}  // namespace lbrd::daemon
