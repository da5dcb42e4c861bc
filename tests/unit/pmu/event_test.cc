#include "pmu/event.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "counting_kernel.h"

namespace lbrd::pmu {
namespace {

perf_event_attr AttrOf(uint64_t tree) {
  perf_event_attr attr{};
  attr.config = tree;
  attr.disabled = 1;
  attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  return attr;
}

class EventTest : public ::testing::Test {
 protected:
  ~EventTest() override {
    EXPECT_EQ(kernel_.open_descriptors(), 0);
    EXPECT_EQ(kernel_.misuses(), 0);
  }
  std::shared_ptr<Event> Open(uint64_t tree = 1) {
    int error = 0;
    return Event::Open(kernel_, AttrOf(tree), {.pid = 1}, &error);
  }
  std::shared_ptr<Event> Inherit(const std::shared_ptr<Event>& parent, uint64_t tree = 1) {
    int error = 0;
    return Event::Inherit(parent, AttrOf(tree), {.pid = 1}, &error);
  }
  static int Descriptor(const Event& event) { return Event::Use(event).fd(); }
  void Tick(const Event& event, int times) {
    for (int i = 0; i < times; ++i) kernel_.Tick(Descriptor(event));
  }

  CountingKernel kernel_;
};

TEST_F(EventTest, LivesFromInactiveThroughActiveToExit) {
  const auto event = Open();
  EXPECT_EQ(event->state(), EventState::kInactive);
  Tick(*event, 2);
  EXPECT_EQ(event->Read().value, 0u);
  ASSERT_TRUE(event->Enable().ok());
  EXPECT_EQ(event->state(), EventState::kActive);
  Tick(*event, 3);
  EXPECT_EQ(event->Read().value, 3u);
  event->Disable();
  EXPECT_EQ(event->state(), EventState::kInactive);
  Tick(*event, 4);
  event->Release();
  EXPECT_EQ(event->state(), EventState::kExit);
  EXPECT_EQ(kernel_.open_descriptors(), 0);
}

TEST_F(EventTest, ExitIsFinal) {
  const auto event = Open();
  ASSERT_TRUE(event->Enable().ok());
  Tick(*event, 5);
  event->Release();
  event->Release();
  const EventCounts last = {.value = 5, .time_enabled_ns = 5, .time_running_ns = 5};
  EXPECT_EQ(event->Read(), last);
  EXPECT_EQ(event->Enable().code(), absl::StatusCode::kFailedPrecondition);
  event->Disable();
  EXPECT_EQ(event->state(), EventState::kExit);
  EXPECT_EQ(Descriptor(*event), -1);
  EXPECT_EQ(event->Read(), last);
}

TEST_F(EventTest, SaysWhyItDoesNotOpen) {
  std::vector<std::shared_ptr<Event>> all;
  while (auto event = Open()) all.push_back(event);
  EXPECT_EQ(all.size(), size_t{CountingKernel::kSlots});
  int error = 0;
  EXPECT_EQ(Event::Open(kernel_, AttrOf(1), {}, &error), nullptr);
  EXPECT_EQ(error, EMFILE);
  EXPECT_EQ(Event::Inherit(all[0], AttrOf(1), {}, &error), nullptr);
  EXPECT_EQ(error, EMFILE);
  EXPECT_EQ(all[0]->children(), 0u);
}  // what was never released is closed with its last reference

TEST_F(EventTest, AParentCountsForItsChildrenDeadAndAlive) {
  const auto parent = Open();
  ASSERT_TRUE(parent->Enable().ok());
  const auto first = Inherit(parent);
  const auto second = Inherit(parent);
  EXPECT_EQ(parent->children(), 2u);
  Tick(*parent, 1);
  Tick(*first, 10);
  Tick(*second, 100);
  EXPECT_EQ(parent->Read().value, 111u);
  first->Release();
  EXPECT_EQ(parent->children(), 1u);
  EXPECT_EQ(parent->Read(), (EventCounts{111, 111, 111, 0}));
  EXPECT_EQ(first->Read().value, 10u);
  Tick(*second, 1000);
  EXPECT_EQ(parent->Read().value, 1111u);
  parent->Release();
  EXPECT_EQ(second->state(), EventState::kExit);
  EXPECT_EQ(kernel_.open_descriptors(), 0);
  EXPECT_EQ(parent->Read().value, 1111u);
  EXPECT_EQ(parent->Read().value, kernel_.truth(1));
}

TEST_F(EventTest, ARootIsItsChildren) {
  const auto root = Event::MakeRoot(kernel_);
  EXPECT_EQ(root->Read(), EventCounts{});
  const auto child = Inherit(root);
  EXPECT_EQ(child->state(), EventState::kInactive);
  ASSERT_TRUE(root->Enable().ok());
  EXPECT_EQ(child->state(), EventState::kActive);
  EXPECT_EQ(Inherit(root)->state(), EventState::kActive);  // born into an active family
  Tick(*child, 7);
  root->Disable();
  EXPECT_EQ(child->state(), EventState::kInactive);
  EXPECT_EQ(root->Read().value, 7u);
  root->Release();
  EXPECT_EQ(root->Read().value, 7u);
}

TEST_F(EventTest, AChildsChildIsItsParents) {
  const auto root = Event::MakeRoot(kernel_);
  const auto child = Inherit(root);
  const auto grandchild = Inherit(child);
  EXPECT_EQ(root->children(), 2u);
  child->Release();
  EXPECT_EQ(grandchild->state(), EventState::kInactive);
  root->Release();
}

TEST_F(EventTest, ADeadParentGivesNoChild) {
  const auto root = Event::MakeRoot(kernel_);
  root->Release();
  int error = 0;
  EXPECT_EQ(Event::Inherit(root, AttrOf(1), {}, &error), nullptr);
  EXPECT_EQ(error, ECANCELED);
  EXPECT_EQ(kernel_.open_descriptors(), 0);
}

TEST_F(EventTest, ChildrenKeepNothingAlive) {
  std::weak_ptr<Event> root_left;
  std::weak_ptr<Event> child_left;
  {
    const auto root = Event::MakeRoot(kernel_);
    root_left = root;
    child_left = Inherit(root);
    EXPECT_FALSE(child_left.expired());
    const auto held = child_left.lock();
    root->Release();
  }
  EXPECT_TRUE(child_left.expired());
  EXPECT_TRUE(root_left.expired());
}

TEST_F(EventTest, PollersSeeTheHangUp) {
  const auto root = Event::MakeRoot(kernel_);
  root->Watch(3);
  root->Watch(4);
  const auto child = Inherit(root);
  child->Watch(5);
  child->Release();
  EXPECT_EQ(kernel_.signals(5), 1u);  // its own end
  EXPECT_EQ(kernel_.signals(3), 1u);  // a child's
  EXPECT_FALSE(root->hung_up());
  root->Unwatch(4);
  root->Release();
  EXPECT_EQ(kernel_.signals(3), 2u);
  EXPECT_EQ(kernel_.signals(4), 1u);
  EXPECT_TRUE(root->hung_up());
}

TEST_F(EventTest, AReleaseWakesAPollerAndWaitsForIt) {
  const auto event = Open();
  event->Watch(0);
  std::atomic<bool> polling = false;
  std::thread poller([&] {
    const Event::Use use(*event);
    ASSERT_GE(use.fd(), 0);
    polling = true;
    while (kernel_.signals(0) == 0) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(event->hung_up());
    EXPECT_EQ(kernel_.open_descriptors(), 1);  // still ours
  });
  while (!polling) absl::SleepFor(absl::Milliseconds(1));
  event->Release();
  EXPECT_EQ(kernel_.open_descriptors(), 0);
  poller.join();
}

// Trees are released while children are born, exit, count, are enabled and are read, from all
// threads at once. Whenever a tree's release returns, what it counted is what its events counted,
// and stays so.
TEST_F(EventTest, ReleaseStorm) {
#ifdef LBRD_TSAN
  // It looks for cycles of locks itself, and takes absl's graph, which is not instrumented, for a
  // race where that is compacted.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#else
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kAbort);
#endif
  constexpr int kThreads = 4;
  constexpr int kSteps = 1'000'000;
  constexpr size_t kTreesAtOnce = 6;
  struct Tree {
    uint64_t number = 0;
    std::shared_ptr<Event> root;
    std::vector<std::shared_ptr<Event>> children;  // some; for exits and ticks
    uint64_t read = 0;                             // the most that a reader saw
  };
  std::mutex mutex;  // of the table, not of what is done to the events
  std::vector<Tree> trees(kTreesAtOnce);
  uint64_t next_tree = 0;
  for (Tree& tree : trees) tree = {next_tree++, Event::MakeRoot(kernel_), {}, 0};
  std::atomic<int> wrong = 0;
  std::atomic<uint64_t> released = 0;
  std::atomic<uint64_t> refused = 0;

  const auto end = [&](const Tree& tree) {
    tree.root->Release();
    const uint64_t counted = tree.root->Read().value;
    if (counted != kernel_.truth(tree.number) || counted < tree.read) ++wrong;
    if (tree.root->children() != 0) ++wrong;
    for (const auto& child : tree.children) {
      if (!child->hung_up() || Descriptor(*child) != -1) ++wrong;
    }
    ++released;
  };
  const auto storm = [&](uint32_t seed) {
    std::mt19937 random(seed);
    for (int step = 0; step < kSteps / kThreads; ++step) {
      const size_t at = random() % kTreesAtOnce;
      Tree tree;
      std::shared_ptr<Event> child;
      {
        const std::lock_guard lock(mutex);
        tree.number = trees[at].number;
        tree.root = trees[at].root;
        if (!trees[at].children.empty()) {
          child = trees[at].children[random() % trees[at].children.size()];
        }
      }
      const uint32_t what = random() % 100;
      if (what < 40) {
        // By number, as the hardware would: whichever event has it now.
        kernel_.Tick(static_cast<int>(random() % 256));
      } else if (what < 70) {
        int error = 0;
        const auto born = Event::Inherit(tree.root, AttrOf(tree.number), {}, &error);
        if (born == nullptr) {
          if (error != ECANCELED) ++wrong;
          ++refused;
          continue;
        }
        const std::lock_guard lock(mutex);
        // Those beyond are kept by their parent only.
        if (trees[at].number == tree.number && trees[at].children.size() < 32) {
          trees[at].children.push_back(born);
        }
      } else if (what < 85) {
        if (child != nullptr) child->Release();  // perhaps not for the first time
      } else if (what < 90) {
        tree.root->Enable().IgnoreError();
      } else if (what < 92) {
        if (child != nullptr) child->Disable();
      } else if (what < 97) {
        const uint64_t value = tree.root->Read().value;
        const std::lock_guard lock(mutex);
        if (trees[at].number == tree.number) trees[at].read = std::max(trees[at].read, value);
      } else {
        Tree old;
        {
          const std::lock_guard lock(mutex);
          if (trees[at].number != tree.number) continue;
          old = std::move(trees[at]);
          trees[at] = {next_tree++, Event::MakeRoot(kernel_), {}, 0};
        }
        // Twice at once, at times.
        if (what == 99) {
          std::thread other([&old] { old.root->Release(); });
          end(old);
          other.join();
        } else {
          end(old);
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; ++i) threads.emplace_back(storm, i);
  for (std::thread& thread : threads) thread.join();
  for (const Tree& tree : trees) end(tree);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(released, next_tree);
  EXPECT_GT(released, 1000u);
  std::printf("%d steps, %llu trees, %llu births refused by a dead parent\n", kSteps,
              static_cast<unsigned long long>(released), static_cast<unsigned long long>(refused));
}

}  // namespace
}  // namespace lbrd::pmu
