// What the profiler knows about one task (a thread) between two of its samples.
//
// Users are counted: each session on the task is one; all sessions on the whole machine are
// together one, marked by `global`. A context whose count reached zero is dead: it stays zero,
// nobody takes a reference any more. Whoever takes a context out of its task's place
// (daemon/task_table) retires it; its memory goes back to the pool (daemon/task_context_pool) after
// a grace period.
//
// A task without a context is a task whose history is unknown. Nothing is ever read into that.
//
// Bounds: kTaskContextBytes a context, and kHistoryBytes once it has a history; of that, what
// stands beyond the history itself is bounded for all together (daemon/branch_history).
// Thread rules: thread-safe; a context that was found under an RcuReadLock is valid under it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "daemon/branch_history.h"
#include "daemon/rcu.h"

namespace lbrd::daemon {

class TaskContextPool;

// Which task: start_ns tells it from others that had the same tid.
struct TaskIdentity {
  int32_t tid = -1;
  int32_t tgid = -1;
  uint64_t start_ns = 0;  // clock of the records
};

// Two cache lines: the first is what attach and detach touch.
class alignas(64) TaskContext : private rcu_head {  // of its retirement, or its batch's
 public:
  TaskContext(TaskContextPool* pool, uint32_t number, uint64_t birth, bool is_global)
      : global(is_global), number_(number), pool_(*pool), birth_(birth) {}
  TaskContext(const TaskContext&) = delete;
  TaskContext& operator=(const TaskContext&) = delete;
  ~TaskContext();

  // Set before the context is published, and constant from then on.
  void set_identity(const TaskIdentity& identity) { identity_ = identity; }
  const TaskIdentity& identity() const { return identity_; }
  // Unique among all that its pool ever gave out, never 0: tells a context from the next that the
  // same task has, or that stands at the same address.
  uint64_t birth() const { return birth_; }

  // As the kernel cuts it: 15 bytes. Empty: not known yet.
  void set_comm(absl::string_view comm);
  std::string comm() const;

  // False: it is unknown, and *history is empty.
  bool LoadHistory(unwind::CallHistory* history) const;
  // Replaces it unless it is later. Without memory for the first it stays unknown.
  void StoreHistory(const unwind::CallHistory& history);
  // The task's stack was replaced (exec): what came before says nothing about it.
  void FlushHistory();

  std::atomic<uint64_t> cgroup = 0;  // inode of its cgroup; 0: not known
  // Its samples that wait for the kernel to unwind their user stack (daemon/deferred_samples).
  std::atomic<uint32_t> pending_deferred = 0;

  // The rest is for daemon/task_table and the pool.

  // One of the references is that of all global users.
  std::atomic<bool> global;
  // False: it is dead.
  bool TakeReferenceUnlessDead();
  // True: it was the last, and the context is dead now. A reference of a dead context is no more.
  bool DropReference();
  // Drops all.
  void Kill() { references_.store(0, std::memory_order_release); }
  uint32_t references() const { return references_.load(std::memory_order_acquire); }
  // It is dead and out of its place: freed after a grace period. Many at once:
  // TaskContextRetirement.
  void Retire();
  // In its pool.
  uint32_t number() const { return number_; }

 private:
  friend class TaskContextPool;
  friend class TaskContextRetirement;
  friend void FreeTaskContext(TaskContext* context);

  std::atomic<uint32_t> references_ = 1;
  const uint32_t number_;
  TaskContextPool& pool_;
  uint32_t next_ = 0;  // of a retired one: the number of the next of its batch; 0: none

  const uint64_t birth_;
  TaskIdentity identity_;
  mutable absl::Mutex mutex_;  // a leaf
  std::array<char, 16> comm_ ABSL_GUARDED_BY(mutex_) = {};
  // nullptr: there never was one.
  std::unique_ptr<BranchHistory> history_ ABSL_GUARDED_BY(mutex_);
  // Of the pool, which alone uses it, and while this is no context.
  [[maybe_unused]] alignas(8) uint8_t pool_link_[8];
};

inline constexpr size_t kTaskContextBytes = sizeof(TaskContext);
static_assert(kTaskContextBytes == 128);
// A history and the allocator's header.
inline constexpr size_t kHistoryBytes = sizeof(BranchHistory) + 16;
// With the task's slot (64), its place (8) and its slot's number (4).
static_assert(kTaskContextBytes + kHistoryBytes + 64 + 8 + 4 <= 1024);

}  // namespace lbrd::daemon
