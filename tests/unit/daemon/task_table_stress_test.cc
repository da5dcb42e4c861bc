// Everything at once, and what must be true meanwhile and after.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "daemon/task_table.h"

namespace lbrd::daemon {
namespace {

constexpr int kRounds = 1500;
constexpr uint64_t kStep = TaskTable::kSameStartNs + 1;

struct Load {
  uint32_t refuse_one_in = 0;  // allocations; 0: none is refused
};

class TaskTableStress : public testing::TestWithParam<Load> {
 protected:
  void SetUp() override {
    const uint32_t one_in = GetParam().refuse_one_in;
    if (one_in == 0) return;
    table_.pool().set_may_allocate([this, one_in] { return ++allocations_ % one_in != 0; });
  }
  bool refusing() const { return GetParam().refuse_one_in != 0; }
  bool HasContext(int32_t tid) {
    RcuReadLock rcu;
    return table_.Find(rcu, tid, UINT64_MAX) != nullptr;
  }

  // Who attached while the task exited has put a context there and is about to take it back (C).
  bool HasNoneSoon(int32_t tid) {
    const absl::Time enough = absl::Now() + absl::Seconds(20);
    while (HasContext(tid)) {
      if (absl::Now() > enough) return false;
      std::this_thread::yield();
    }
    return true;
  }

  // Tasks of one family: only this thread forks them, others may look and attach. Tids are reused,
  // each time by a later task.
  void ForkAndExit(int32_t first_tid) {
    std::minstd_rand random(static_cast<uint32_t>(first_tid));
    for (int round = 1; round <= kRounds; ++round) {
      const int32_t tid = first_tid + static_cast<int32_t>(random() % 8);
      const uint64_t now = static_cast<uint64_t>(round) * kStep;
      if (random() % 3 == 0) {
        table_.Exit(tid, now);
        EXPECT_TRUE(HasNoneSoon(tid));
        continue;
      }
      // Was every task to have a context before the fork, and still after? A user that is about to
      // leave is no longer held first, and a change then: so these are read the other way round.
      const uint64_t changes = changes_;
      const bool before = held_ > 0;
      const std::optional<TaskRef> task =
          table_.Add({.tid = tid, .tgid = first_tid, .start_ns = now});
      ASSERT_TRUE(task.has_value());
      table_.Fork(*task);
      const bool has = HasContext(tid);
      EXPECT_TRUE(has || !before || changes != changes_ || refusing());
    }
    for (int32_t i = 0; i < 8; ++i) table_.Exit(first_tid + i, UINT64_MAX);
  }

  void AttachAndDetachGlobal() {
    for (int round = 0; round < kRounds / 5; ++round) {
      const absl::Status status = table_.AttachGlobal();
      if (!status.ok()) {
        EXPECT_TRUE(refusing());
        continue;
      }
      ++held_;
      // These live all the time.
      for (int32_t tid = kLasting; tid < kLasting + kLastingTasks; ++tid) {
        EXPECT_TRUE(HasContext(tid));
      }
      std::this_thread::yield();
      --held_;
      ++changes_;
      table_.DetachGlobal();
    }
  }

  void AttachAndDetach(uint32_t seed) {
    std::minstd_rand random(seed);
    std::vector<TaskAttachment> attachments(6);
    for (int round = 0; round < kRounds; ++round) {
      const int32_t tid = RandomTid(random);
      TaskAttachment& attachment = attachments[random() % attachments.size()];
      attachment.Detach();
      const std::optional<TaskRef> task = table_.FindTask(tid, UINT64_MAX);
      if (!task.has_value()) continue;
      const absl::Status status = table_.Attach(*task, &attachment);
      EXPECT_EQ(status.ok(), attachment.attached());
      EXPECT_TRUE(!status.ok() || tid < kLasting || HasContext(tid));
    }
  }

  void LookUp(uint32_t seed) {
    std::minstd_rand random(seed);
    while (!stop_) {
      const int32_t tid = RandomTid(random);
      RcuReadLock rcu;
      TaskContext* context = table_.Find(rcu, tid, UINT64_MAX);
      if (context == nullptr) continue;
      ASSERT_EQ(context->identity().tid, tid);
      context->set_comm("looked at");
      ++context->pending_deferred;
      ASSERT_EQ(context->comm(), "looked at");
    }
  }

  int32_t RandomTid(std::minstd_rand& random) {
    const int32_t families[] = {100, 200, kLasting};
    return families[random() % 3] + static_cast<int32_t>(random() % 8);
  }

  static constexpr int32_t kLasting = 1000;
  static constexpr int32_t kLastingTasks = 8;
  TaskTable table_;
  std::atomic<uint32_t> allocations_ = 0;
  std::atomic<int> held_ = 0;          // global users that are sure to be there
  std::atomic<uint64_t> changes_ = 0;  // times that one of them was about to leave
  std::atomic<bool> stop_ = false;
};

TEST_P(TaskTableStress, KeepsItsPromises) {
  for (int32_t i = 0; i < kLastingTasks; ++i) {
    ASSERT_TRUE(table_.Add({.tid = kLasting + i, .tgid = kLasting, .start_ns = 1}).has_value());
  }
  std::thread reader([this] { LookUp(1); });
  std::vector<std::thread> threads;
  threads.emplace_back([this] { ForkAndExit(100); });
  threads.emplace_back([this] { ForkAndExit(200); });
  threads.emplace_back([this] { AttachAndDetachGlobal(); });
  threads.emplace_back([this] { AttachAndDetachGlobal(); });
  threads.emplace_back([this] { AttachAndDetach(2); });
  threads.emplace_back([this] { AttachAndDetach(3); });
  for (std::thread& thread : threads) thread.join();
  stop_ = true;
  reader.join();
  // The last user is gone.
  EXPECT_EQ(table_.stats().global_users, 0u);
  EXPECT_EQ(table_.stats().contexts, 0u);
  EXPECT_EQ(table_.stats().tasks, static_cast<size_t>(kLastingTasks));
  RcuBarrier();
  EXPECT_EQ(table_.stats().context_bytes, 0u);
}

// An exit and an attach that set out together, round after round: whichever is first, no context
// stays behind (C and D).
TEST(TaskTableRace, NoContextOutlivesItsTask) {
  constexpr int kMeetings = 20'000;
  // Where others want the CPUs too, each meeting may take two of their time slices.
  const absl::Time enough = absl::Now() + absl::Seconds(20);
  TaskTable table;
  std::atomic<int> attacher = 0;
  std::atomic<int> exiter = 0;
  std::atomic<int> attached = 0;
  std::atomic<TaskRef*> meeting = nullptr;
  const auto set_out = [](std::atomic<int>& mine, const std::atomic<int>& other, int round) {
    mine = round;
    for (int spin = 0; other < round; ++spin) {
      if (spin > 500) std::this_thread::yield();
    }
  };
  std::atomic<int> next = 0;
  std::atomic<bool> over = false;
  std::thread attaching([&] {
    TaskAttachment attachment;  // kept over the other thread's look: a detach would retire late
    for (int round = 1;; ++round) {
      while (next < round && !over) std::this_thread::yield();
      if (over) return;
      const TaskRef task = *meeting.load();
      set_out(attacher, exiter, round);
      table.Attach(task, &attachment).IgnoreError();
      attached = round;
    }
  });
  std::minstd_rand random(1);
  TaskRef task;
  int stayed = 0;
  for (int round = 1; round <= kMeetings && absl::Now() < enough; ++round) {
    task = *table.Add({.tid = 7, .tgid = 7, .start_ns = static_cast<uint64_t>(round) * kStep});
    meeting = &task;
    next = round;
    set_out(exiter, attacher, round);
    // The attach takes some hundred instructions to its allocation and its exchange.
    for (uint64_t wait = random() % 256; wait != 0; --wait) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    table.Exit(7, UINT64_MAX);
    while (attached < round) std::this_thread::yield();
    stayed += table.stats().contexts != 0;
  }
  over = true;
  attaching.join();
  EXPECT_EQ(stayed, 0);
}

INSTANTIATE_TEST_SUITE_P(Loads, TaskTableStress,
                         testing::Values(Load{.refuse_one_in = 0}, Load{.refuse_one_in = 1},
                                         Load{.refuse_one_in = 2}, Load{.refuse_one_in = 7},
                                         Load{.refuse_one_in = 31}),
                         [](const auto& load) {
                           return load.param.refuse_one_in == 0
                                      ? std::string("NoneRefused")
                                      : "OneRefusedIn" + std::to_string(load.param.refuse_one_in);
                         });

}  // namespace
}  // namespace lbrd::daemon
