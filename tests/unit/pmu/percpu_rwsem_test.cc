#include "pmu/percpu_rwsem.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace lbrd::pmu {
namespace {

using ReaderBarrier = PercpuRwSem::ReaderBarrier;

// What a test waits for comes, or the test runs into its time limit.
template <typename Condition>
void WaitFor(Condition condition) {
  while (!condition()) absl::SleepFor(absl::Microseconds(50));
}

// What happened, in order.
class Log {
 public:
  void Add(char what) {
    absl::MutexLock lock(&mutex_);
    text_ += what;
  }
  std::string text() const {
    absl::MutexLock lock(&mutex_);
    return text_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

// Keeps the numbers of all threads taken, so that further threads share a cell.
class SlotsTaken {
 public:
  SlotsTaken() {
    std::latch taken(kThreadSlots);
    for (uint32_t i = 0; i < kThreadSlots; ++i) {
      threads_.emplace_back([this, &taken] {
        ThreadSlot();
        taken.count_down();
        give_back_.wait();
      });
    }
    taken.wait();
  }
  ~SlotsTaken() {
    give_back_.count_down();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::latch give_back_{1};
  std::vector<std::thread> threads_;
};

struct Way {
  const char* name;
  ReaderBarrier barrier;
  bool share_a_cell;
};

class PercpuRwSemTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam().share_a_cell) taken_.emplace();
  }
  PercpuRwSem sem_{GetParam().barrier};

 private:
  std::optional<SlotsTaken> taken_;
};

INSTANTIATE_TEST_SUITE_P(Ways, PercpuRwSemTest,
                         testing::Values(Way{"Membarrier", ReaderBarrier::kAuto, false},
                                         Way{"Fence", ReaderBarrier::kFence, false},
                                         Way{"SharedCell", ReaderBarrier::kAuto, true},
                                         Way{"SharedCellFence", ReaderBarrier::kFence, true}),
                         [](const auto& way) { return way.param.name; });

TEST_P(PercpuRwSemTest, IsTakenAndGivenBack) {
  for (int i = 0; i < 3; ++i) {
    { PercpuRwSem::ReadLock lock(sem_); }
    { PercpuRwSem::WriteLock lock(sem_); }
  }
  EXPECT_EQ(sem_.queue().writers, 0u);
  EXPECT_EQ(sem_.queue().sleeping_readers, 0u);
}

TEST_P(PercpuRwSemTest, TryingDoesNotWaitForAWriter) {
  std::optional<PercpuRwSem::WriteLock> write(std::in_place, sem_);
  std::thread([&] { EXPECT_FALSE(PercpuRwSem::TryReadLock(sem_).held()); }).join();
  EXPECT_EQ(sem_.queue().sleeping_readers, 0u);
  write.reset();
  {
    const PercpuRwSem::TryReadLock read(sem_);
    EXPECT_TRUE(read.held());
    EXPECT_TRUE(
        PercpuRwSem::TryReadLock(sem_).held());  // nested, as that of a thread that holds it
  }
  const PercpuRwSem::WriteLock again(sem_);  // both gave it back
}

// The writer comes while it is held.
TEST_P(PercpuRwSemTest, TryingKeepsWritersOutAndWakesThem) {
  std::thread writer;
  {
    const PercpuRwSem::TryReadLock read(sem_);
    ASSERT_TRUE(read.held());
    writer = std::thread([&] { const PercpuRwSem::WriteLock write(sem_); });
    while (sem_.queue().writers == 0) std::this_thread::yield();
    // It waits now, or is about to; a thread that does not hold the lock is turned away meanwhile.
    std::thread([&] { EXPECT_FALSE(PercpuRwSem::TryReadLock(sem_).held()); }).join();
    EXPECT_EQ(sem_.queue().writers, 1u);
  }
  writer.join();
  EXPECT_EQ(sem_.queue().writers, 0u);
}

TEST_P(PercpuRwSemTest, WritersExcludeEverybody) {
  constexpr int kReaders = 3;
  constexpr int kWriters = 2;
  constexpr int kWrites = 400;
  uint64_t left = 0;  // plain, and equal whenever no writer is in
  uint64_t right = 0;
  std::atomic<int> writing = kWriters;
  std::atomic<uint64_t> torn = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kReaders; ++i) {
    threads.emplace_back([&] {
      while (writing > 0) {
        PercpuRwSem::ReadLock lock(sem_);
        if (left != right) ++torn;
      }
    });
  }
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&] {
      for (int write = 0; write < kWrites; ++write) {
        PercpuRwSem::WriteLock lock(sem_);
        ++left;
        if (write % 64 == 0) std::this_thread::yield();
        ++right;
      }
      --writing;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(torn, 0u);
  EXPECT_EQ(left, kWriters * kWrites);
  EXPECT_EQ(right, kWriters * kWrites);
}

TEST_P(PercpuRwSemTest, ReadersDoNotExcludeEachOther) {
  std::latch both_in(2);
  const auto read = [&] {
    PercpuRwSem::ReadLock lock(sem_);
    both_in.arrive_and_wait();
  };
  std::thread one(read);
  std::thread other(read);
  one.join();
  other.join();
}

TEST_P(PercpuRwSemTest, WriterSleepsUntilTheLastReaderLeft) {
  Log log;
  std::latch held(2);
  std::latch leave_first(1);
  std::latch leave_second(1);
  const auto read = [&](std::latch& leave, char name) {
    PercpuRwSem::ReadLock lock(sem_);
    held.count_down();
    leave.wait();
    log.Add(name);
  };
  std::thread first([&] { read(leave_first, '1'); });
  std::thread second([&] { read(leave_second, '2'); });
  held.wait();
  std::thread writer([&] {
    PercpuRwSem::WriteLock lock(sem_);
    log.Add('w');
  });
  WaitFor([&] { return sem_.queue().writers == 1; });
  absl::SleepFor(absl::Milliseconds(2));  // most often it is asleep by now; right either way
  leave_first.count_down();
  first.join();
  leave_second.count_down();
  second.join();
  writer.join();
  EXPECT_EQ(log.text(), "12w");
}

TEST_P(PercpuRwSemTest, ReadersThatComeLaterLetAWaitingWriterGoFirst) {
  Log log;
  std::thread writer;
  std::thread late;
  {
    PercpuRwSem::ReadLock lock(sem_);
    writer = std::thread([&] {
      PercpuRwSem::WriteLock write(sem_);
      log.Add('w');
    });
    WaitFor([&] { return sem_.queue().writers == 1; });
    late = std::thread([&] {
      PercpuRwSem::ReadLock read(sem_);
      log.Add('r');
    });
    WaitFor([&] { return sem_.queue().sleeping_readers == 1 || log.text() == "r"; });
  }
  writer.join();
  late.join();
  EXPECT_EQ(log.text(), "wr");
}

TEST_P(PercpuRwSemTest, WritersThatComeLaterLetSleepingReadersGoFirst) {
  Log log;
  std::vector<std::thread> threads;
  {
    PercpuRwSem::WriteLock lock(sem_);
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        PercpuRwSem::ReadLock read(sem_);
        log.Add('r');
      });
    }
    WaitFor([&] { return sem_.queue().sleeping_readers == 2; });
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        PercpuRwSem::WriteLock write(sem_);
        log.Add('w');
      });
    }
    WaitFor([&] { return sem_.queue().writers == 4; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(log.text(), "rrwww");
}

// The compiler's analysis knows no lock that nests.
void ReadAgain(PercpuRwSem& sem) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  PercpuRwSem::ReadLock inner(sem);
  { PercpuRwSem::ReadLock innermost(sem); }
  EXPECT_EQ(sem.queue().writers, 1u);
}

TEST_P(PercpuRwSemTest, AThreadThatReadsMayReadAgainThoughAWriterWaits) {
  std::thread writer;
  {
    PercpuRwSem::ReadLock outer(sem_);
    writer = std::thread([&] { PercpuRwSem::WriteLock lock(sem_); });
    WaitFor([&] { return sem_.queue().writers == 1; });
    ReadAgain(sem_);
  }
  writer.join();
}

TEST_P(PercpuRwSemTest, SteadyReadersDoNotStarveWriters) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop) PercpuRwSem::ReadLock lock(sem_);
    });
  }
  for (int i = 0; i < 200; ++i) PercpuRwSem::WriteLock lock(sem_);
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

TEST_P(PercpuRwSemTest, SteadyWritersDoNotStarveReaders) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&] {
      while (!stop) PercpuRwSem::WriteLock lock(sem_);
    });
  }
  for (int i = 0; i < 200; ++i) PercpuRwSem::ReadLock lock(sem_);
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

TEST_P(PercpuRwSemTest, ThreadsComeAndGo) {
  uint64_t count = 0;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    while (!stop) {
      PercpuRwSem::WriteLock lock(sem_);
      ++count;
    }
  });
  uint64_t seen = 0;
  for (int i = 0; i < 300; ++i) {
    std::thread reader([&] {
      PercpuRwSem::ReadLock lock(sem_);
      EXPECT_GE(count, seen);
      seen = count;
    });
    reader.join();
  }
  stop = true;
  writer.join();
}

TEST(PercpuRwSem, HasReadersFenceWhereAskedFor) {
  EXPECT_TRUE(PercpuRwSem(ReaderBarrier::kFence).readers_fence());
  if (PercpuRwSem().readers_fence()) {
    GTEST_SKIP() << "membarrier(2) is refused here: readers always pay for a fence";
  }
}

TEST(PercpuRwSem, IsIndependentOfOthers) {
  PercpuRwSem one;
  PercpuRwSem other;
  PercpuRwSem::ReadLock read(one);
  PercpuRwSem::WriteLock write(other);
}

// Where the compiler has the analysis, it says no already.
void WriteWhileReading(PercpuRwSem& sem) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  PercpuRwSem::ReadLock read(sem);
  PercpuRwSem::WriteLock write(sem);
}

TEST(PercpuRwSemDeathTest, AReaderThatWantsToWriteIsAborted) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  PercpuRwSem sem;
  EXPECT_DEATH(WriteWhileReading(sem), "holds it for reading takes it for writing");
}

}  // namespace
}  // namespace lbrd::pmu
