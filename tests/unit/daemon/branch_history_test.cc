#include "daemon/branch_history.h"

#include <gtest/gtest.h>

#include <vector>

namespace lbrd::daemon {
namespace {

std::vector<unwind::Call> Calls(size_t count) {
  std::vector<unwind::Call> calls;
  for (size_t i = 0; i < count; ++i) {
    calls.push_back({.from = 0x7fff'1234'5678 - i, .to = 0x5555'0000'0000 + i});
  }
  return calls;
}

TEST(BranchHistory, IsUnknownAtFirst) {
  EXPECT_TRUE(BranchHistory().empty());
  EXPECT_FALSE(BranchHistory().truncated());
}

TEST(BranchHistory, KeepsEveryAddress) {
  const std::vector<unwind::Call> calls = Calls(BranchHistory::kMaxCalls);
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

TEST(BranchHistory, ADeepStackStandsInABlockThatCopiesShare) {
  const size_t before = BranchHistory::deep_bytes();
  {
    BranchHistory history;
    history.Store(7, Calls(BranchHistory::kInlineCalls), /*reaches_start=*/true, 5);
    EXPECT_EQ(BranchHistory::deep_bytes(), before);
    EXPECT_TRUE(history.reaches_start());
    EXPECT_EQ(history.top_of_stack(), 5u);
    history.Store(8, Calls(BranchHistory::kInlineCalls + 10), /*reaches_start=*/true);
    EXPECT_EQ(BranchHistory::deep_bytes(), before + BranchHistory::kDeepBlockBytes + 160);
    const BranchHistory copy = history;
    EXPECT_EQ(BranchHistory::deep_bytes(), before + BranchHistory::kDeepBlockBytes + 160);
    EXPECT_EQ(copy.to(BranchHistory::kInlineCalls + 9),
              0x5555'0000'0000 + BranchHistory::kInlineCalls + 9);
    EXPECT_EQ(history.top_of_stack(), std::nullopt);
  }
  EXPECT_EQ(BranchHistory::deep_bytes(), before);
}

TEST(BranchHistory, WithoutItsBaseItDoesNotReachTheStart) {
  BranchHistory history;
  history.Store(7, Calls(BranchHistory::kMaxCalls + 1), /*reaches_start=*/true);
  EXPECT_FALSE(history.reaches_start());
}

TEST(BranchHistory, KeepsTheCallsNearestTheLeaf) {
  const std::vector<unwind::Call> calls = Calls(BranchHistory::kMaxCalls + 3);
  BranchHistory history;
  history.Store(7, calls);
  EXPECT_TRUE(history.truncated());
  ASSERT_EQ(history.size(), BranchHistory::kMaxCalls);
  EXPECT_EQ(history.from(0), calls[0].from);
}

TEST(BranchHistory, IsUnknownWhereAnAddressDoesNotFit) {
  BranchHistory history;
  history.Store(6, Calls(3));
  std::vector<unwind::Call> calls = Calls(3);
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
