#include "pmu/percpu_rwsem.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>

#include "pmu/cpu_relax.h"

namespace lbrd::pmu {
namespace {

// Looks before a thread sleeps: sections are shorter than to sleep and to be woken, which takes
// milliseconds where the CPU has other work.
constexpr int kSpins = 256;

// A writer's interrupt of the other CPUs takes tens of microseconds in a virtual machine. A reader
// that meets it looks for as long; to sleep and to be woken would take it longer.
constexpr uint64_t kReaderPatienceNs = 100'000;

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

long Membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

bool RegisterForMembarrier() {
  const long commands = Membarrier(MEMBARRIER_CMD_QUERY);
  return commands >= 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0 &&
         Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

bool HaveMembarrier() {
  static const bool registered = RegisterForMembarrier();
  return registered;
}

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "PercpuRwSem: %s\n", what);
  std::abort();
}

void BarrierOnEveryCpu() {
  while (Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {
    // The kernel may lack memory for its set of CPUs. Nothing else can fail once registered.
    if (errno != ENOMEM) Die("membarrier was registered for and is refused");
    sched_yield();
  }
}

// What a thread without a cell of its own holds for reading, and how often. No destructor: locks
// are taken while threads end, too.
struct SharedHold {
  const PercpuRwSem* sem;
  uint32_t depth;
};
constinit thread_local SharedHold shared_holds[PercpuRwSem::kMaxSharedHolds] = {};

// nullptr: it does not hold it.
SharedHold* FindSharedHold(const PercpuRwSem* sem) {
  for (SharedHold& hold : shared_holds) {
    if (hold.sem == sem) return &hold;
  }
  return nullptr;
}

}  // namespace

PercpuRwSem::PercpuRwSem(ReaderBarrier barrier) {
  if (barrier == ReaderBarrier::kFence || !HaveMembarrier()) state_ = kFence;
}

PercpuRwSem::Queue PercpuRwSem::queue() const {
  absl::MutexLock lock(&mutex_);
  return {.writers = next_ticket_ - serving_, .sleeping_readers = sleepers_};
}

// The flag is up, or readers pay for a fence; the cell is marked.
void PercpuRwSem::LockMarked(Cell& cell) {
  if (readers_fence()) {
    // A': the mark, again, and the look as sequentially consistent accesses; pair with C'.
    cell.held.store(1, std::memory_order_seq_cst);
    if ((state_.load(std::memory_order_seq_cst) & kWriter) == 0) return;
  }
  // D, again: back out. Whatever the writer saw, it is woken.
  cell.held.store(0, std::memory_order_release);
  WakeWriter();
  SleepUntilWriterLeft(cell);
}

// The flag is up, or readers pay for a fence; the cell is marked.
bool PercpuRwSem::TryLockMarked(Cell& cell) {
  do {
    // A': holds in either mode, since the flag is raised by a sequentially consistent exchange.
    cell.held.store(1, std::memory_order_seq_cst);
    if ((state_.load(std::memory_order_seq_cst) & kWriter) == 0) return true;
    cell.held.store(0, std::memory_order_release);
    WakeWriter();
    // J pairs with I. If the flag is down by now the writer may not see what we did before.
  } while ((state_.load(std::memory_order_seq_cst) & kWriter) == 0);
  return false;
}

// The flag is up, or readers pay for a fence; the mark was taken back.
void PercpuRwSem::UnlockUnmarked(Cell& cell) {
  if (readers_fence()) {
    cell.held.store(0, std::memory_order_seq_cst);  // A', again
    if ((state_.load(std::memory_order_seq_cst) & kWriter) == 0) return;
  }
  WakeWriter();
}

// A thread that holds the lock does not wait: a writer waits for it already, or has not looked yet.
void PercpuRwSem::LockSpecial(Cell* cell) {
  if (cell == nullptr) return LockShared();
  cell->held.fetch_add(1, std::memory_order_relaxed);
}

bool PercpuRwSem::TryLockSpecial(Cell* cell) {
  if (cell == nullptr) return TryLockShared();
  LockSpecial(cell);
  return true;
}

void PercpuRwSem::UnlockSpecial(Cell* cell) {
  if (cell == nullptr) return UnlockShared();
  cell->held.fetch_sub(1, std::memory_order_relaxed);
}

void PercpuRwSem::LockShared() {
  if (NestShared()) return;
  if (!TryMarkShared()) SleepUntilWriterLeft(shared_cell_);
  BeginSharedHold();
}

bool PercpuRwSem::TryLockShared() {
  if (NestShared()) return true;
  do {
    if (TryMarkShared()) {
      BeginSharedHold();
      return true;
    }
  } while ((state_.load(std::memory_order_seq_cst) & kWriter) == 0);  // J, again
  return false;
}

// True: the thread holds it, and does so once more.
bool PercpuRwSem::NestShared() {
  SharedHold* hold = FindSharedHold(this);
  if (hold == nullptr) return false;
  ++hold->depth;
  return true;
}

void PercpuRwSem::BeginSharedHold() {
  SharedHold* hold = FindSharedHold(nullptr);
  if (hold == nullptr) Die("a thread beyond the bound holds too many for reading");
  *hold = {this, 1};
}

// In the shared cell each mark is a read-modify-write, a full barrier: A' in either mode. False:
// the flag is up, and there is no mark.
bool PercpuRwSem::TryMarkShared() {
  shared_cell_.held.fetch_add(1, std::memory_order_seq_cst);
  if ((state_.load(std::memory_order_seq_cst) & kWriter) == 0) return true;
  shared_cell_.held.fetch_sub(1, std::memory_order_seq_cst);
  WakeWriter();
  return false;
}

void PercpuRwSem::UnlockShared() {
  SharedHold* hold = FindSharedHold(this);
  if (--hold->depth != 0) return;
  *hold = {};
  shared_cell_.held.fetch_sub(1, std::memory_order_seq_cst);
  if ((state_.load(std::memory_order_seq_cst) & kWriter) != 0) WakeWriter();
}

bool PercpuRwSem::HeldByThisThread() {
  if (const Cell* cell = ThisThreadsCell(); cell != nullptr) {
    return cell->held.load(std::memory_order_relaxed) != 0;
  }
  return FindSharedHold(this) != nullptr;
}

// Marks the cell once no writer is in the way. The flag is raised under the mutex, too: a mark made
// under it is seen by the next writer without further barriers.
void PercpuRwSem::SleepUntilWriterLeft(Cell& cell) {
  uint64_t phase;
  {
    absl::MutexLock lock(&mutex_);
    if ((state_.load(std::memory_order_relaxed) & kWriter) == 0) {
      cell.held.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    ++sleepers_;
    phase = phase_.load(std::memory_order_relaxed);
  }
  const auto left_meanwhile = [this, phase] {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (phase_.load(std::memory_order_relaxed) != phase) return true;
      CpuRelax();
    }
    return false;
  };
  for (const uint64_t begin = NowNs(); !left_meanwhile() && NowNs() - begin < kReaderPatienceNs;) {
  }
  absl::MutexLock lock(&mutex_);
  const auto left = [this, phase] { return phase_.load(std::memory_order_relaxed) != phase; };
  mutex_.Await(absl::Condition(&left));
  --admitted_;
  cell.held.fetch_add(1, std::memory_order_relaxed);
}

void PercpuRwSem::WakeWriter() {
  departures_.fetch_add(1, std::memory_order_release);  // G pairs with H
  syscall(SYS_futex, &departures_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void PercpuRwSem::Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (HeldByThisThread()) Die("a thread that holds it for reading takes it for writing");
  {
    absl::MutexLock lock(&mutex_);
    const auto my_turn = [this, ticket = next_ticket_++]()
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return serving_ == ticket; };
    mutex_.Await(absl::Condition(&my_turn));
    state_.fetch_or(kWriter, std::memory_order_seq_cst);
    // The readers that the last writer let in go first.
    const auto all_in = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return admitted_ == 0; };
    mutex_.Await(absl::Condition(&all_in));
  }
  // C pairs with A: a reader on any CPU has either made its mark before this, so that we see it
  // below, or looks for the flag after this, and sees it.
  // C': with fences, raising the flag and looking at the cells are sequentially consistent.
  if (!readers_fence()) BarrierOnEveryCpu();
  WaitForReaders();
}

void PercpuRwSem::Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  absl::MutexLock lock(&mutex_);
  // F pairs with B. I pairs with J: the flag goes down before we look at anything hereafter.
  state_.fetch_and(~kWriter, std::memory_order_seq_cst);
  admitted_ = sleepers_;  // it was zero: nobody is let in while the flag is up
  sleepers_ = 0;
  phase_.fetch_add(1, std::memory_order_relaxed);
  ++serving_;
}

bool PercpuRwSem::NobodyReads() const {
  // A thread that is not counted yet has not looked for the flag yet (C, C').
  const uint32_t used = ThreadSlotsEverUsed();
  for (uint32_t slot = 0; slot < used; ++slot) {
    // E pairs with D.
    if (cells_[slot].held.load(std::memory_order_seq_cst) != 0) return false;
  }
  return shared_cell_.held.load(std::memory_order_seq_cst) == 0;
}

// A mark taken back after we saw it is followed by a departure: A, C and the raised flag see to it.
void PercpuRwSem::WaitForReaders() {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (NobodyReads()) return;
    CpuRelax();
  }
  for (;;) {
    // H pairs with G: a departure that is in `departures` has taken its mark back; one that is not
    // changes the word, and we do not sleep.
    const uint32_t departures = departures_.load(std::memory_order_acquire);
    if (NobodyReads()) return;
    syscall(SYS_futex, &departures_, FUTEX_WAIT_PRIVATE, departures, nullptr, nullptr, 0);
  }
}

}  // namespace lbrd::pmu
