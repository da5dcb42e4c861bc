#include "daemon/branch_history.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace lbrd::daemon {
namespace {

// A stack of `count` calls.
unwind::CallHistory Stack(size_t count, bool reaches_start = false) {
  std::vector<unwind::Call> calls;
  for (size_t i = 0; i < count; ++i) {
    calls.push_back({.from = 0x7fff'1234'5678 - i, .to = 0x5555'0000'0000 + i});
  }
  return {.calls = std::move(calls), .reaches_start = reaches_start, .time_ns = 7};
}

unwind::CallHistory Loaded(const BranchHistory& history) {
  // What was there before is gone.
  unwind::CallHistory loaded{.calls = {{1, 2}}, .reaches_start = true, .top_of_stack = 3};
  history.Load(&loaded);
  return loaded;
}

TEST(BranchHistory, IsUnknownAtFirst) {
  EXPECT_TRUE(BranchHistory().empty());
  EXPECT_FALSE(BranchHistory().truncated());
  const unwind::CallHistory loaded = Loaded(BranchHistory());
  EXPECT_TRUE(loaded.calls.empty());
  EXPECT_FALSE(loaded.reaches_start);
  EXPECT_EQ(loaded.top_of_stack, std::nullopt);
}

TEST(BranchHistory, KeepsEveryAddress) {
  const unwind::CallHistory stack = Stack(BranchHistory::kMaxCalls);
  BranchHistory history;
  history.Store(stack);
  EXPECT_EQ(history.time_ns(), 7u);
  EXPECT_FALSE(history.truncated());
  EXPECT_EQ(Loaded(history).calls, stack.calls);
  EXPECT_EQ(Loaded(history).time_ns, 7u);
}

TEST(BranchHistory, ADeepStackStandsInABlockOfItsOwn) {
  const size_t before = BranchHistory::deep_bytes();
  {
    BranchHistory history;
    unwind::CallHistory stack = Stack(BranchHistory::kInlineCalls, /*reaches_start=*/true);
    stack.top_of_stack = 5;
    history.Store(stack);
    EXPECT_EQ(BranchHistory::deep_bytes(), before);
    EXPECT_TRUE(Loaded(history).reaches_start);
    EXPECT_EQ(Loaded(history).top_of_stack, 5u);
    stack = Stack(BranchHistory::kInlineCalls + 10, /*reaches_start=*/true);
    history.Store(stack);
    EXPECT_EQ(BranchHistory::deep_bytes(), before + BranchHistory::kDeepBlockBytes + 160);
    EXPECT_EQ(Loaded(history).calls, stack.calls);
    EXPECT_TRUE(Loaded(history).reaches_start);
    EXPECT_EQ(Loaded(history).top_of_stack, std::nullopt);
    // A shallow one gives the block back.
    history.Store(Stack(1));
    EXPECT_EQ(BranchHistory::deep_bytes(), before);
    history.Store(stack);
  }
  EXPECT_EQ(BranchHistory::deep_bytes(), before);
}

TEST(BranchHistory, WithoutItsBaseItDoesNotReachTheStart) {
  BranchHistory history;
  history.Store(Stack(BranchHistory::kMaxCalls + 1, /*reaches_start=*/true));
  EXPECT_FALSE(Loaded(history).reaches_start);
}

TEST(BranchHistory, KeepsTheCallsNearestTheLeaf) {
  unwind::CallHistory stack = Stack(BranchHistory::kMaxCalls + 3);
  BranchHistory history;
  history.Store(stack);
  EXPECT_TRUE(history.truncated());
  stack.calls.resize(BranchHistory::kMaxCalls);
  EXPECT_EQ(Loaded(history).calls, stack.calls);
}

TEST(BranchHistory, IsUnknownWhereAnAddressDoesNotFit) {
  BranchHistory history;
  history.Store(Stack(3));
  unwind::CallHistory stack = Stack(3);
  stack.calls[2].to = uint64_t{1} << 47;
  history.Store(stack);
  EXPECT_TRUE(history.empty());
}

TEST(BranchHistory, IsUnknownOnceCleared) {
  BranchHistory history;
  history.Store(Stack(BranchHistory::kMaxCalls + 1));
  history.Clear();
  EXPECT_TRUE(history.empty());
  EXPECT_FALSE(history.truncated());
}

}  // namespace
}  // namespace lbrd::daemon
