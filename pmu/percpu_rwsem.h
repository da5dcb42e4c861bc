// A reader-writer lock whose readers pay next to nothing, for what is read all the time and written
// when a session starts or stops.
//
// Each thread has a cell of its own in every semaphore. A reader marks its cell and looks whether a
// writer has raised its flag; a writer raises its flag and looks whether a cell is marked. One of
// the two must see the other, which takes a full barrier between the mark and the look on both
// sides. Readers leave theirs out: the writer has the kernel run it for them, on every CPU that
// runs a thread of this process (membarrier(2), PRIVATE_EXPEDITED: 0.3 us, some us where another
// CPU must be interrupted). This is the asymmetric form of Dekker's algorithm; the idea is that of
// Linux's percpu-rwsem.
//
// Neither side starves. A raised flag sends new readers to sleep, so a writer waits only for the
// readers that were in. A writer that leaves lets in all that sleep, and the next writer waits for
// these: a reader waits for one writer at most (phase-fair; B. Brandenburg and J. Anderson,
// "Spin-based reader-writer synchronization for multiprocessor real-time systems", 2010). Writers
// are served in the order they came.
//
// Recursion: a thread that holds the lock for reading may take it for reading again, and does not
// wait then, writer or not; it gives the latest back first (as scopes do). It must not take it for
// writing (the process is aborted), and a writer must not take it again in either way (it would
// wait for itself).
//
// Where membarrier is refused (seccomp, an emulator), readers pay the full barrier themselves,
// about 5 ns more. That is found out once, when a semaphore is made.
//
// Bounds: 33 KiB a semaphore. Threads beyond kThreadSlots at once share one cell, correct and
// slower.
//
// Thread rules: any thread; a guard is destroyed by the thread that made it, and outlived by the
// semaphore.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "pmu/thread_slot.h"

namespace lbrd::pmu {

class ABSL_LOCKABLE PercpuRwSem {
 public:
  enum class ReaderBarrier {
    kAuto,   // the compiler's, if the kernel has membarrier
    kFence,  // the processor's
  };

  PercpuRwSem() : PercpuRwSem(ReaderBarrier::kAuto) {}
  explicit PercpuRwSem(ReaderBarrier barrier);
  PercpuRwSem(const PercpuRwSem&) = delete;
  PercpuRwSem& operator=(const PercpuRwSem&) = delete;
  ~PercpuRwSem() = default;

  // True if readers pay for a fence.
  bool readers_fence() const { return (state_.load(std::memory_order_relaxed) & kFence) != 0; }

  // Who is kept waiting, as of now.
  struct Queue {
    uint64_t writers = 0;           // the one that is in, or waits for readers, among them
    uint64_t sleeping_readers = 0;  // until the writer that is in has left
  };
  Queue queue() const;

  static constexpr size_t kMaxSharedHolds = 16;

  class ReadLock;
  class TryReadLock;
  class WriteLock;

 private:
  // How often, at depth, a thread holds the lock for reading. Two cache lines, since processors
  // fetch lines in pairs. Only its thread writes it, but for the shared one.
  struct alignas(128) Cell {
    std::atomic<uint32_t> held = 0;
  };
  static constexpr uint32_t kFence = 1;   // set for good: readers always take the slow path
  static constexpr uint32_t kWriter = 2;  // the flag: a writer waits or is in

  Cell* ThisThreadsCell() {
    uint32_t slot = internal::this_thread_slot;
    if (slot >= kThreadSlots) [[unlikely]] {
      slot = ThreadSlot();
      if (slot >= kThreadSlots) return nullptr;
    }
    return &cells_[slot];
  }

  // True: held for reading. False: the flag is up or readers pay for a fence; the cell is marked.
  bool MarkAndLook(Cell& cell) {
    // A constant is stored, and not the count's successor: the processor need not wait for the last
    // store of the count to come back to it, which would double the cost.
    cell.held.store(1, std::memory_order_relaxed);
    // A: the mark before the look. Only the compiler is held to it; C does it for the processor.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // B pairs with F: what the writer that lowered the flag did is seen by the reader.
    return state_.load(std::memory_order_acquire) == 0;
  }
  void Unmark(Cell& cell) {
    // D pairs with E: the writer that finds no mark sees what the reader did.
    cell.held.store(0, std::memory_order_release);
    // A, again: a writer that still saw the mark has raised the flag that we look for now.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (state_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      UnlockUnmarked(cell);
  }

  static bool NeedsSpecialCare(const Cell* cell) {
    return cell == nullptr || cell->held.load(std::memory_order_relaxed) != 0;
  }

  // The slow paths.
  void LockMarked(Cell& cell);
  bool TryLockMarked(Cell& cell);
  void UnlockUnmarked(Cell& cell);
  void LockSpecial(Cell* cell);
  bool TryLockSpecial(Cell* cell);
  void UnlockSpecial(Cell* cell);
  void LockShared();
  bool TryLockShared();
  bool NestShared();
  void BeginSharedHold();
  bool TryMarkShared();
  void UnlockShared();
  bool HeldByThisThread();

  void SleepUntilWriterLeft(Cell& cell);
  void WakeWriter();

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION();
  void Unlock() ABSL_UNLOCK_FUNCTION();
  bool NobodyReads() const;
  void WaitForReaders();

  std::array<Cell, kThreadSlots> cells_;
  Cell shared_cell_;
  alignas(128) std::atomic<uint32_t> state_ = 0;  // kFence, kWriter

  // Counted up by readers that leave while the flag is up: what a waiting writer sleeps on.
  alignas(128) std::atomic<uint32_t> departures_ = 0;

  mutable absl::Mutex mutex_;  // a leaf; raising and lowering kWriter takes it
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t serving_ ABSL_GUARDED_BY(mutex_) = 0;   // the ticket of the writer whose turn it is
  uint64_t sleepers_ ABSL_GUARDED_BY(mutex_) = 0;  // readers that sleep
  uint64_t admitted_ ABSL_GUARDED_BY(mutex_) = 0;  // readers let in that have not marked their cell
  std::atomic<uint64_t> phase_ = 0;  // writers that have left; written under the mutex
};

// Holds the semaphore for reading.
class ABSL_SCOPED_LOCKABLE PercpuRwSem::ReadLock {
 public:
  explicit ReadLock(PercpuRwSem& sem) ABSL_SHARED_LOCK_FUNCTION(sem) ABSL_NO_THREAD_SAFETY_ANALYSIS
      : sem_(sem),
        cell_(sem.ThisThreadsCell()) {
    if (NeedsSpecialCare(cell_)) [[unlikely]] {
      special_ = true;
      sem_.LockSpecial(cell_);
    } else if (!sem_.MarkAndLook(*cell_)) [[unlikely]] {
      sem_.LockMarked(*cell_);
    }
  }
  ReadLock(const ReadLock&) = delete;
  ReadLock& operator=(const ReadLock&) = delete;
  ~ReadLock() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (special_) [[unlikely]] {
      sem_.UnlockSpecial(cell_);
    } else {
      sem_.Unmark(*cell_);
    }
  }

 private:
  // Nobody is given the address of this, so that all of it stays in registers.
  PercpuRwSem& sem_;
  Cell* const cell_;      // nullptr: the shared one
  bool special_ = false;  // in the shared cell, or the thread held the lock before
};

// Holds the semaphore for reading, unless a writer waits for it or is in: never waits.
//
// Where it is not held, the writer leaves after this. What its thread does after that (I) sees what
// this thread did before (J), so a reader whose work the writer can do after its section may leave
// it to the writer.
class PercpuRwSem::TryReadLock {
 public:
  explicit TryReadLock(PercpuRwSem& sem)
      : sem_(sem), cell_(sem.ThisThreadsCell()), special_(NeedsSpecialCare(cell_)) {
    if (special_) [[unlikely]] {
      held_ = sem_.TryLockSpecial(cell_);
    } else {
      held_ = sem_.MarkAndLook(*cell_) || sem_.TryLockMarked(*cell_);
    }
  }
  TryReadLock(const TryReadLock&) = delete;
  TryReadLock& operator=(const TryReadLock&) = delete;
  ~TryReadLock() {
    if (!held_) return;
    if (special_) [[unlikely]] {
      sem_.UnlockSpecial(cell_);
    } else {
      sem_.Unmark(*cell_);
    }
  }

  bool held() const { return held_; }

 private:
  PercpuRwSem& sem_;
  Cell* const cell_;
  const bool special_;
  bool held_;
};

// Holds the semaphore for writing.
class ABSL_SCOPED_LOCKABLE PercpuRwSem::WriteLock {
 public:
  explicit WriteLock(PercpuRwSem& sem) ABSL_EXCLUSIVE_LOCK_FUNCTION(sem) : sem_(sem) {
    sem_.Lock();
  }
  WriteLock(const WriteLock&) = delete;
  WriteLock& operator=(const WriteLock&) = delete;
  ~WriteLock() ABSL_UNLOCK_FUNCTION() { sem_.Unlock(); }

 private:
  PercpuRwSem& sem_;
};

}  // namespace lbrd::pmu
