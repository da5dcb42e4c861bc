#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <set>
#include <thread>
#include <vector>

#include "daemon/task_context_pool.h"

namespace lbrd::daemon {
namespace {

TEST(TaskContextPool, CountsAndBounds) {
  TaskContextPool pool(2);
  EXPECT_EQ(pool.max_bytes(),
            2 * (kTaskContextBytes + kHistoryBytes) + BranchHistory::kMaxDeepBytes);
  TaskContext* one = AllocTaskContext(&pool, false);
  TaskContext* other = AllocTaskContext(&pool, true);
  ASSERT_NE(one, nullptr);
  ASSERT_NE(other, nullptr);
  EXPECT_FALSE(one->global);
  EXPECT_TRUE(other->global);
  EXPECT_EQ(one->references(), 1u);
  EXPECT_EQ(AllocTaskContext(&pool, false), nullptr);
  EXPECT_EQ(pool.live(), 2u);
  EXPECT_EQ(pool.bytes(), 2 * kTaskContextBytes);
  EXPECT_EQ(pool.refused(), 1u);
  FreeTaskContext(one);
  one = AllocTaskContext(&pool, false);
  ASSERT_NE(one, nullptr);
  FreeTaskContext(one);
  EXPECT_TRUE(other->DropReference());
  other->Retire();
  EXPECT_EQ(pool.live(), 0u);
  RcuBarrier();
  EXPECT_EQ(pool.bytes(), 0u);
}

TEST(TaskContextPool, CanBeToldToRefuse) {
  TaskContextPool pool(9);
  bool may = false;
  pool.set_may_allocate([&] { return may; });
  EXPECT_EQ(AllocTaskContext(&pool, false), nullptr);
  EXPECT_EQ(pool.bytes(), 0u);
  may = true;
  TaskContext* context = AllocTaskContext(&pool, false);
  ASSERT_NE(context, nullptr);
  FreeTaskContext(context);
}

TEST(TaskContextPool, KeepsARetiredContextForThoseThatRead) {
  TaskContextPool pool(1);
  TaskContext* context = AllocTaskContext(&pool, false);
  {
    RcuReadLock rcu;
    context->Kill();
    context->Retire();
    context->set_comm("still here");
    EXPECT_EQ(context->comm(), "still here");
    EXPECT_EQ(pool.bytes(), kTaskContextBytes);
  }
  RcuBarrier();
  EXPECT_EQ(pool.bytes(), 0u);
}

TEST(TaskContextPool, CountsWhatHistoriesTake) {
  TaskContextPool pool(1);
  TaskContext* context = AllocTaskContext(&pool, false);
  ASSERT_NE(context, nullptr);
  unwind::CallHistory stack{.time_ns = 5};
  stack.calls.assign(BranchHistory::kInlineCalls + 10, {.from = 1, .to = 2});
  context->StoreHistory(stack);
  EXPECT_EQ(pool.bytes(), kTaskContextBytes + kHistoryBytes + BranchHistory::kDeepBlockBytes + 160);
  unwind::CallHistory loaded;
  EXPECT_TRUE(context->LoadHistory(&loaded));
  EXPECT_EQ(loaded.calls, stack.calls);
  stack.calls.resize(BranchHistory::kInlineCalls);
  stack.time_ns = 6;
  context->StoreHistory(stack);
  EXPECT_EQ(pool.bytes(), kTaskContextBytes + kHistoryBytes);
  EXPECT_LE(pool.bytes(), pool.max_bytes());
  FreeTaskContext(context);
  EXPECT_EQ(pool.bytes(), 0u);
}

TEST(TaskContextPool, ARetiredContextTakesItsHistoryAlong) {
  TaskContextPool pool(2);
  unwind::CallHistory stack{.time_ns = 5};
  stack.calls.assign(BranchHistory::kInlineCalls + 10, {.from = 1, .to = 2});
  for (int i = 0; i < 2; ++i) {
    TaskContext* context = AllocTaskContext(&pool, false);
    ASSERT_NE(context, nullptr);
    context->StoreHistory(stack);
    context->Kill();
    context->Retire();
  }
  RcuBarrier();
  EXPECT_EQ(pool.bytes(), 0u);
}

TEST(TaskContextPool, GivesTheMemoryOfWhatIsFreeBack) {
  constexpr size_t kContexts = 4 * TaskContextPool::kBlockContexts;
  TaskContextPool pool(kContexts);
  for (int round = 0; round < 3; ++round) {
    std::vector<TaskContext*> contexts;
    for (size_t i = 0; i < kContexts; ++i) {
      contexts.push_back(AllocTaskContext(&pool, false));
      ASSERT_NE(contexts.back(), nullptr);
      EXPECT_EQ(pool.At(contexts.back()->number()), contexts.back());
    }
    EXPECT_EQ(AllocTaskContext(&pool, false), nullptr);
    EXPECT_GE(pool.resident_blocks(), 4u);
    {
      TaskContextRetirement retirement(&pool);
      for (TaskContext* context : contexts) {
        context->Kill();
        retirement.Add(context);
      }
    }
    EXPECT_EQ(pool.live(), 0u);
    RcuBarrier();
    EXPECT_EQ(pool.bytes(), 0u);
    EXPECT_EQ(pool.resident_blocks(), 1u);
  }
}

TEST(TaskContextPool, PreparesRoomAheadAndNoMore) {
  constexpr size_t kBlock = TaskContextPool::kBlockContexts;
  TaskContextPool pool(4 * kBlock);
  std::vector<TaskContext*> contexts;
  const auto take = [&](size_t count) {
    for (size_t i = 0; i < count; ++i) contexts.push_back(AllocTaskContext(&pool, false));
  };
  // One that is not in use has not a block's whole room: number 0 is none.
  for (const size_t blocks : {1, 2, 2, 2}) {
    pool.PrepareRoom();
    EXPECT_EQ(pool.resident_blocks(), blocks);
  }
  take(kBlock / 2);
  pool.PrepareRoom();
  EXPECT_EQ(pool.resident_blocks(), 2u);
  take(kBlock);
  pool.PrepareRoom();
  EXPECT_EQ(pool.resident_blocks(), 3u);
  // What is memory is taken first.
  take(kBlock);
  EXPECT_EQ(pool.resident_blocks(), 3u);
  take(2 * kBlock);
  for (int i = 0; i < 8; ++i) pool.PrepareRoom();
  EXPECT_LE(pool.resident_blocks(), 5u);
  EXPECT_EQ(pool.live(), 4 * kBlock);
  for (TaskContext* context : contexts) {
    if (context != nullptr) FreeTaskContext(context);
  }
  EXPECT_EQ(pool.bytes(), 0u);
}

TEST(TaskContextPool, IsRefusedWhereTheKernelHasNoMemory) {
  TaskContextPool pool(1);
  const pid_t child = fork();
  if (child == 0) {
    // What becomes writable counts, as what is mapped so does.
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_DATA, &none) != 0) _exit(2);
    alarm(20);
    const bool refused = AllocTaskContext(&pool, false) == nullptr;
    _exit(refused && pool.refused() == 1 && pool.bytes() == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(TaskContextPool, ThreadsNeverHaveTheSameContext) {
  constexpr int kThreads = 3;
  constexpr size_t kEach = 900;  // more than a block
  TaskContextPool pool(kThreads * kEach);
  std::vector<std::vector<uint64_t>> births(kThreads);
  std::vector<std::thread> threads;
  for (int me = 0; me < kThreads; ++me) {
    threads.emplace_back([&pool, &births, me] {
      std::minstd_rand random(static_cast<uint32_t>(me + 1));
      std::vector<TaskContext*> mine;
      for (int round = 0; round < 20; ++round) {
        while (mine.size() < kEach) {
          // No one has more than is set aside for it, so there is room.
          TaskContext* context = AllocTaskContext(&pool, false);
          ASSERT_NE(context, nullptr);
          context->set_identity({.tid = me, .start_ns = context->birth()});
          births[me].push_back(context->birth());
          mine.push_back(context);
        }
        for (size_t left = random() % kEach; mine.size() > left; mine.pop_back()) {
          ASSERT_EQ(mine.back()->identity().tid, me);
          ASSERT_EQ(mine.back()->identity().start_ns, mine.back()->birth());
          FreeTaskContext(mine.back());
        }
      }
      for (TaskContext* context : mine) FreeTaskContext(context);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.bytes(), 0u);
  EXPECT_EQ(pool.refused(), 0u);
  EXPECT_LE(pool.resident_blocks(), 1u);
  std::set<uint64_t> all;
  size_t count = 0;
  for (const std::vector<uint64_t>& some : births) {
    all.insert(some.begin(), some.end());
    count += some.size();
  }
  EXPECT_EQ(all.size(), count);
}

class TaskContextTest : public testing::Test {
 protected:
  ~TaskContextTest() override { FreeTaskContext(context_); }
  TaskContextPool pool_{1};
  TaskContext* const context_ = AllocTaskContext(&pool_, false);
};

TEST_F(TaskContextTest, StaysDeadOnceDead) {
  EXPECT_TRUE(context_->TakeReferenceUnlessDead());
  EXPECT_FALSE(context_->DropReference());
  EXPECT_TRUE(context_->DropReference());
  EXPECT_FALSE(context_->TakeReferenceUnlessDead());
  EXPECT_FALSE(context_->DropReference());
  EXPECT_EQ(context_->references(), 0u);
}

TEST_F(TaskContextTest, IsKilledWhoeverHasReferences) {
  EXPECT_TRUE(context_->TakeReferenceUnlessDead());
  context_->Kill();
  EXPECT_FALSE(context_->TakeReferenceUnlessDead());
  EXPECT_FALSE(context_->DropReference());
}

TEST_F(TaskContextTest, CutsNamesAsTheKernelDoes) {
  EXPECT_EQ(context_->comm(), "");
  context_->set_comm("a-name-of-more-than-15");
  EXPECT_EQ(context_->comm(), "a-name-of-more-");
  context_->set_comm("sh");
  EXPECT_EQ(context_->comm(), "sh");
}

TEST_F(TaskContextTest, KeepsTheLatestHistory) {
  unwind::CallHistory loaded{.calls = {{.from = 3, .to = 4}}, .reaches_start = true};
  EXPECT_FALSE(context_->LoadHistory(&loaded));
  EXPECT_TRUE(loaded.calls.empty());
  EXPECT_FALSE(loaded.reaches_start);
  const unwind::CallHistory later{.calls = {{.from = 1, .to = 2}}, .time_ns = 20};
  context_->StoreHistory(later);
  context_->StoreHistory({.time_ns = 10});
  EXPECT_TRUE(context_->LoadHistory(&loaded));
  EXPECT_EQ(loaded.time_ns, 20u);
  EXPECT_EQ(loaded.calls, later.calls);
  context_->FlushHistory();
  EXPECT_FALSE(context_->LoadHistory(&loaded));
}

}  // namespace
}  // namespace lbrd::daemon
