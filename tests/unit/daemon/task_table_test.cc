#include "daemon/task_table.h"

#include <gtest/gtest.h>

#include <latch>
#include <thread>
#include <vector>

namespace lbrd::daemon {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

class TaskTableTest : public testing::Test {
 protected:
  TaskRef Add(int32_t tid, uint64_t start_ns = kSecond) {
    return table_.Add({.tid = tid, .tgid = tid, .start_ns = start_ns}).value();
  }
  TaskRef Fork(int32_t tid, uint64_t start_ns = kSecond) {
    const TaskRef task = Add(tid, start_ns);
    table_.Fork(task);
    return task;
  }
  TaskAttachment Attach(TaskRef task) {
    TaskAttachment attachment;
    EXPECT_EQ(table_.Attach(task, &attachment), absl::OkStatus());
    return attachment;
  }
  // The references of the task's context; 0: it has none.
  uint32_t References(int32_t tid, uint64_t time_ns = UINT64_MAX) {
    RcuReadLock rcu;
    const TaskContext* context = table_.Find(rcu, tid, time_ns);
    return context == nullptr ? 0 : context->references();
  }
  bool Global(int32_t tid) {
    RcuReadLock rcu;
    const TaskContext* context = table_.Find(rcu, tid, UINT64_MAX);
    return context != nullptr && context->global;
  }

  TaskTable table_;
};

TEST_F(TaskTableTest, KnowsATaskByTidAndStart) {
  EXPECT_FALSE(table_.FindTask(7, UINT64_MAX).has_value());
  const TaskRef task = Add(7);
  EXPECT_EQ(table_.FindTask(7, kSecond)->slot, task.slot);
  EXPECT_FALSE(table_.FindTask(7, kSecond - 1).has_value());
  EXPECT_FALSE(table_.FindTask(8, UINT64_MAX).has_value());
  EXPECT_EQ(table_.stats().tasks, 1u);
  table_.Exit(7, kSecond - 1);  // of an earlier task
  EXPECT_TRUE(table_.FindTask(7, UINT64_MAX).has_value());
  table_.Exit(7, kSecond + 5);
  EXPECT_FALSE(table_.FindTask(7, UINT64_MAX).has_value());
  table_.Exit(7, kSecond + 5);
  EXPECT_EQ(table_.stats().tasks, 0u);
}

TEST_F(TaskTableTest, AddsATaskOnceHoweverItIsTold) {
  const TaskRef exact = Add(7, kSecond);
  const TaskRef in_ticks = Add(7, kSecond - 10'000'000);
  EXPECT_EQ(in_ticks.slot, exact.slot);
  EXPECT_EQ(in_ticks.life, exact.life);
  EXPECT_EQ(table_.stats().tasks, 1u);
}

TEST_F(TaskTableTest, ATidThatIsUsedAgainIsAnotherTask) {
  const TaskAttachment old_session = Attach(Add(7, kSecond));
  Add(7, 5 * kSecond);  // the exit was not told
  EXPECT_EQ(table_.stats().tasks, 1u);
  EXPECT_EQ(References(7), 0u);
  const TaskAttachment new_session = Attach(*table_.FindTask(7, UINT64_MAX));
  EXPECT_EQ(References(7), 1u);
  // A sample of the old one that comes late finds nothing, rather than the new one's.
  EXPECT_EQ(References(7, 4 * kSecond), 0u);
}

TEST_F(TaskTableTest, IgnoresATaskThatALaterOneFollowed) {
  Add(7, 5 * kSecond);
  EXPECT_FALSE(table_.Add({.tid = 7, .tgid = 7, .start_ns = kSecond}).has_value());
  EXPECT_EQ(table_.stats().tasks, 1u);
}

TEST_F(TaskTableTest, KnowsNoTidThatLinuxCannotGive) {
  constexpr int32_t kEnd = 4 << 20;
  Add(kEnd - 1);
  const TaskAttachment attachment = Attach(*table_.FindTask(kEnd - 1, UINT64_MAX));
  EXPECT_EQ(References(kEnd - 1), 1u);
  for (const int32_t tid : {-1, kEnd, INT32_MAX, INT32_MIN}) {
    EXPECT_FALSE(table_.Add({.tid = tid, .tgid = 1, .start_ns = kSecond}).has_value());
    EXPECT_FALSE(table_.FindTask(tid, UINT64_MAX).has_value());
    EXPECT_EQ(References(tid), 0u);
    table_.Exit(tid, UINT64_MAX);
  }
}

// A look-up compares steps of 4.2 ms, and looks closer within one.
TEST_F(TaskTableTest, KnowsWhenATaskStartedToTheNanosecond) {
  const TaskAttachment attachment = Attach(Add(7, kSecond));
  EXPECT_EQ(References(7, kSecond - 1), 0u);
  EXPECT_EQ(References(7, kSecond), 1u);
  EXPECT_EQ(References(7, kSecond + 1), 1u);
  EXPECT_EQ(References(7, kSecond + TaskPlace::kStepNs), 1u);
  EXPECT_EQ(References(7, 0), 0u);
}

// A session that lags tells of a task again that has exited: same tid, same start.
TEST_F(TaskTableTest, ATaskThatIsToldAgainAfterItsExitHasItsOwnContext) {
  const TaskRef first = Add(7, kSecond);
  TaskAttachment of_the_first = Attach(first);
  table_.Exit(7, 2 * kSecond);
  const TaskRef again = Add(7, kSecond);
  EXPECT_EQ(References(7, kSecond), 0u);
  const TaskAttachment of_the_second = Attach(again);
  EXPECT_EQ(References(7, kSecond), 1u);
  of_the_first.Detach();
  TaskAttachment late;
  EXPECT_EQ(table_.Attach(first, &late).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(References(7, kSecond), 1u);
  EXPECT_EQ(References(7, kSecond - 1), 0u);
}

// What a recording may claim: no time after which another could start.
TEST_F(TaskTableTest, ATidWhoseTimesAreUsedUpHasNoTasksAnyMore) {
  Add(7, UINT64_MAX);
  const TaskAttachment attachment = Attach(*table_.FindTask(7, UINT64_MAX));
  EXPECT_EQ(References(7, UINT64_MAX), 1u);
  EXPECT_EQ(References(7, UINT64_MAX - 1), 0u);
  table_.Exit(7, UINT64_MAX);
  EXPECT_FALSE(table_.Add({.tid = 7, .tgid = 7, .start_ns = UINT64_MAX}).has_value());
  EXPECT_EQ(References(7, UINT64_MAX), 0u);
  EXPECT_EQ(table_.stats().tasks, 0u);
}

TEST_F(TaskTableTest, SessionsOnATaskShareItsContext) {
  const TaskRef task = Add(7);
  EXPECT_EQ(References(7), 0u);
  TaskAttachment one = Attach(task);
  TaskAttachment other = Attach(task);
  EXPECT_EQ(References(7), 2u);
  EXPECT_FALSE(Global(7));
  one.Detach();
  one.Detach();
  EXPECT_EQ(References(7), 1u);
  TaskAttachment moved = std::move(other);
  EXPECT_EQ(References(7), 1u);
  moved = TaskAttachment();
  EXPECT_EQ(References(7), 0u);
  EXPECT_EQ(table_.stats().contexts, 0u);
}

TEST_F(TaskTableTest, ContextsTellWhoseTheyAre) {
  const TaskAttachment attachment = Attach(*table_.Add({.tid = 7, .tgid = 5, .start_ns = kSecond}));
  RcuReadLock rcu;
  const TaskIdentity& identity = table_.Find(rcu, 7, UINT64_MAX)->identity();
  EXPECT_EQ(identity.tid, 7);
  EXPECT_EQ(identity.tgid, 5);
  EXPECT_EQ(identity.start_ns, kSecond);
}

TEST_F(TaskTableTest, GlobalUsersAreOneReferenceOfEachTask) {
  for (int32_t tid = 1; tid <= 3; ++tid) Add(tid);
  const TaskAttachment attachment = Attach(*table_.FindTask(2, UINT64_MAX));
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  EXPECT_EQ(table_.stats().global_users, 2u);
  EXPECT_EQ(References(1), 1u);
  EXPECT_EQ(References(2), 2u);
  EXPECT_TRUE(Global(2));
  table_.DetachGlobal();
  EXPECT_EQ(table_.stats().contexts, 3u);
  table_.DetachGlobal();
  EXPECT_EQ(References(1), 0u);
  EXPECT_EQ(References(2), 1u);
  EXPECT_FALSE(Global(2));
  EXPECT_EQ(table_.stats().contexts, 1u);
  EXPECT_EQ(table_.stats().global_users, 0u);
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  EXPECT_EQ(References(2), 2u);
  table_.DetachGlobal();
}

TEST_F(TaskTableTest, ForkedTasksGetAContextWhileThereAreGlobalUsers) {
  Fork(1);
  EXPECT_EQ(References(1), 0u);
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  const TaskRef child = Fork(2);
  EXPECT_EQ(References(2), 1u);
  table_.Fork(child);  // told twice
  EXPECT_EQ(References(2), 1u);
  TaskAttachment session = Attach(Add(3));
  table_.Fork(Add(3));
  EXPECT_EQ(References(3), 2u);
  EXPECT_TRUE(Global(3));
  session.Detach();
  EXPECT_EQ(References(3), 1u);
  table_.DetachGlobal();
  EXPECT_EQ(table_.stats().contexts, 0u);
  Fork(4);
  EXPECT_EQ(table_.stats().contexts, 0u);
}

TEST_F(TaskTableTest, AnExitTakesTheContextWhoeverUsesIt) {
  const TaskRef task = Add(7);
  TaskAttachment session = Attach(task);
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  table_.Exit(7, UINT64_MAX);
  EXPECT_EQ(table_.stats().contexts, 0u);
  EXPECT_EQ(table_.Attach(task, &session).code(), absl::StatusCode::kNotFound);
  table_.Fork(task);
  EXPECT_EQ(table_.stats().contexts, 0u);
  session.Detach();
  table_.DetachGlobal();
}

TEST_F(TaskTableTest, ForgetsTasksThatNobodyUses) {
  for (int32_t tid = 1; tid <= 3; ++tid) Add(tid);
  const TaskAttachment session = Attach(*table_.FindTask(2, UINT64_MAX));
  table_.ForgetUnused();
  EXPECT_EQ(table_.stats().tasks, 1u);
  EXPECT_EQ(References(2), 1u);
}

TEST_F(TaskTableTest, ASecondGlobalUserWaitsForTheFirstsWalk) {
  for (int32_t tid = 1; tid <= 50; ++tid) Add(tid);
  std::thread second;
  std::latch started(1);
  bool first = true;
  table_.pool().set_may_allocate([&] {
    if (first) {
      first = false;
      second = std::thread([&] {
        started.count_down();
        EXPECT_EQ(table_.AttachGlobal(), absl::OkStatus());
        EXPECT_EQ(table_.stats().contexts, 50u);
      });
      started.wait();
    }
    return true;
  });
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  second.join();
  EXPECT_EQ(table_.stats().global_users, 2u);
}

TEST_F(TaskTableTest, UsesTheMemoryOfTasksThatExitedAgain) {
  for (int32_t tid = 1; tid <= 5000; ++tid) Add(tid);
  for (int32_t tid = 1; tid <= 5000; ++tid) table_.Exit(tid, UINT64_MAX);
  RcuBarrier();
  for (int32_t tid = 1; tid <= 5000; ++tid) Add(tid);
  // What a walk meets is what was ever allocated.
  ASSERT_EQ(table_.AttachGlobal(), absl::OkStatus());
  EXPECT_LE(table_.stats().slots_walked, 6000u);
  EXPECT_EQ(table_.stats().contexts, 5000u);
}

}  // namespace
}  // namespace lbrd::daemon
