// The faults that this protocol had in its history elsewhere, each a test.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "daemon/task_table.h"

namespace lbrd::daemon {
namespace {

constexpr int32_t kTasks = 20;

class TaskTableFaultTest : public testing::Test {
 protected:
  TaskTableFaultTest() {
    for (int32_t tid = 1; tid <= kTasks; ++tid) Add(tid);
  }
  TaskRef Add(int32_t tid, uint64_t start_ns = 1) {
    return table_.Add({.tid = tid, .tgid = tid, .start_ns = start_ns}).value();
  }
  bool HasContext(int32_t tid, uint64_t time_ns = UINT64_MAX) {
    RcuReadLock rcu;
    return table_.Find(rcu, tid, time_ns) != nullptr;
  }
  TaskTable table_;
};

// (a) The walk held the lock for writing while it allocated, and every task that exited waited.
TEST_F(TaskTableFaultTest, ExitsAndForksDoNotWaitForTheWalk) {
  int32_t allocation = 0;
  table_.pool().set_may_allocate([&] {
    if (++allocation != 5) return true;
    // In the middle of the walk another thread exits and forks, and is done before it goes on.
    std::thread other([this] {
      table_.Exit(2, UINT64_MAX);           // met already
      table_.Exit(kTasks - 2, UINT64_MAX);  // not met yet
      table_.Fork(Add(1000));
    });
    other.join();
    EXPECT_TRUE(HasContext(1000));
    return true;
  });
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  EXPECT_FALSE(HasContext(2));
  EXPECT_FALSE(HasContext(kTasks - 2));
  EXPECT_EQ(table_.stats().contexts, kTasks - 2 + 1u);
}

// (b) A failed allocation returned with the lock held.
TEST_F(TaskTableFaultTest, AFailedAllocationLeavesNothingLocked) {
  for (int32_t failing = 1; failing <= kTasks; ++failing) {
    int32_t allocation = 0;
    table_.pool().set_may_allocate([&] { return ++allocation != failing; });
    EXPECT_EQ(table_.AttachGlobal().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(table_.stats().contexts, 0u) << failing;
    EXPECT_EQ(table_.stats().global_users, 0u);
    std::thread other([this] {
      table_.Fork(Add(1000));
      EXPECT_FALSE(HasContext(1000));
      table_.Exit(1000, UINT64_MAX);
      EXPECT_EQ(table_.AttachGlobal(), absl::OkStatus());
      RcuBarrier();  // while contexts are freed the number is a lower bound
      EXPECT_EQ(table_.stats().contexts, static_cast<size_t>(kTasks));
      table_.DetachGlobal();
    });
    other.join();
    EXPECT_EQ(table_.stats().contexts, 0u);
  }
  RcuBarrier();
  EXPECT_EQ(table_.stats().context_bytes, 0u);
}

TEST_F(TaskTableFaultTest, AFailureLeavesTheContextsOfSessionsAlone) {
  TaskAttachment session;
  ASSERT_EQ(table_.Attach(Add(3), &session), absl::OkStatus());
  int32_t allocation = 0;
  table_.pool().set_may_allocate([&] { return ++allocation != 10; });
  EXPECT_FALSE(table_.AttachGlobal().ok());
  EXPECT_EQ(table_.stats().contexts, 1u);
  RcuReadLock rcu;
  EXPECT_EQ(table_.Find(rcu, 3, UINT64_MAX)->references(), 1u);
  EXPECT_FALSE(table_.Find(rcu, 3, UINT64_MAX)->global);
}

// (c) The walk began again after each allocation: quadratic in the number of tasks.
TEST_F(TaskTableFaultTest, TheWalkMeetsEachSlotOnce) {
  int32_t next_tid = kTasks;
  uint64_t allocations = 0;
  table_.pool().set_may_allocate([&] {
    ++allocations;
    if (next_tid < 500) {
      // Tasks come and go all the while.
      const TaskRef child = Add(++next_tid);
      table_.Exit(next_tid - kTasks / 2, UINT64_MAX);
      table_.Fork(child);
    }
    return true;
  });
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  // Each exit's slot is used again after a grace period at the earliest.
  EXPECT_GE(table_.stats().slots_walked, static_cast<uint64_t>(kTasks));
  EXPECT_LE(table_.stats().slots_walked, 500u);
  EXPECT_EQ(table_.stats().contexts, table_.stats().tasks);
  EXPECT_LE(allocations, 500u);
}

// (d) The clean-up of a session that had never been attached detached the others.
TEST_F(TaskTableFaultTest, WhatWasNeverAttachedIsNotDetached) {
  TaskAttachment attached;
  ASSERT_EQ(table_.Attach(Add(3), &attached), absl::OkStatus());
  {
    // Task 4 has no context, and there is no room for one: the session is cleaned up.
    table_.pool().set_may_allocate([] { return false; });
    TaskAttachment failed;
    EXPECT_FALSE(table_.Attach(Add(4), &failed).ok());
    EXPECT_FALSE(failed.attached());
  }
  EXPECT_TRUE(HasContext(3));
  EXPECT_FALSE(HasContext(4));
}

TEST_F(TaskTableFaultTest, WhatWasAttachedToTheTidsLastOwnerIsNotDetachedFromThis) {
  TaskAttachment of_the_old_task;
  ASSERT_EQ(table_.Attach(Add(3), &of_the_old_task), absl::OkStatus());
  table_.Exit(3, UINT64_MAX);
  RcuBarrier();  // the slot can be used again
  TaskAttachment of_the_new_task;
  ASSERT_EQ(table_.Attach(Add(3, 1'000'000'000), &of_the_new_task), absl::OkStatus());
  of_the_old_task.Detach();
  EXPECT_TRUE(HasContext(3));
}

// (e) A task without a context was shown the branches of the one before.
TEST_F(TaskTableFaultTest, ATaskWithoutAContextHasAnUnknownHistory) {
  {
    TaskAttachment session;
    ASSERT_EQ(table_.Attach(Add(3), &session), absl::OkStatus());
    RcuReadLock rcu;
    table_.Find(rcu, 3, UINT64_MAX)->StoreHistory({.calls = {{.from = 1, .to = 2}}, .time_ns = 5});
    EXPECT_FALSE(HasContext(4));
  }
  EXPECT_FALSE(HasContext(3));
  RcuBarrier();  // the memory can be used again
  TaskAttachment next;
  ASSERT_EQ(table_.Attach(Add(3), &next), absl::OkStatus());
  RcuReadLock rcu;
  unwind::CallHistory loaded;
  EXPECT_FALSE(table_.Find(rcu, 3, UINT64_MAX)->LoadHistory(&loaded));
}

TEST_F(TaskTableFaultTest, AForkThatIsRefusedAContextHasAnUnknownHistory) {
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  table_.pool().set_may_allocate([] { return false; });
  table_.Fork(Add(1000));
  EXPECT_FALSE(HasContext(1000));
  EXPECT_EQ(table_.stats().refused, 1u);
  table_.Exit(1000, UINT64_MAX);
  table_.DetachGlobal();
  EXPECT_EQ(table_.stats().contexts, 0u);
}

}  // namespace
}  // namespace lbrd::daemon
