#include "daemon/task_context.h"

#include <gtest/gtest.h>

#include <vector>

namespace lbrd::daemon {
namespace {

TEST(TaskContextPool, CountsAndBounds) {
  TaskContextPool pool(2);
  EXPECT_EQ(pool.max_bytes(), 2 * kTaskContextBytes);
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
  EXPECT_TRUE(context_->history().empty());
  const std::vector<unwind::Call> calls = {{.from = 1, .to = 2}};
  BranchHistory later;
  later.Store(20, calls);
  context_->set_history(later);
  BranchHistory earlier;
  earlier.Store(10, {});
  context_->set_history(earlier);
  EXPECT_EQ(context_->history().time_ns(), 20u);
  ASSERT_EQ(context_->history().size(), 1u);
  EXPECT_EQ(context_->history().to(0), 2u);
  context_->FlushHistory();
  EXPECT_TRUE(context_->history().empty());
}

}  // namespace
}  // namespace lbrd::daemon
