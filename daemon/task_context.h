// What the profiler knows about one task (a thread) between two of its samples, and the pool that
// such contexts come from and go back to.
//
// Users are counted: each session on the task is one; all sessions on the whole machine are
// together one, marked by `global`. A context whose count reached zero is dead: it stays zero,
// nobody takes a reference any more. Whoever takes a context out of its slot (daemon/task_table)
// retires it; its memory goes back to the pool after a grace period.
//
// A task without a context is a task whose history is unknown. Nothing is ever read into that.
//
// Bounds: kTaskContextBytes a context, and a pool holds as many as it was told.
// Thread rules: thread-safe; a context that was found under an RcuReadLock is valid under it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

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

class TaskContext : private rcu_head {  // of its retirement
 public:
  TaskContext(TaskContextPool* pool, bool is_global) : global(is_global), pool_(*pool) {}
  TaskContext(const TaskContext&) = delete;
  TaskContext& operator=(const TaskContext&) = delete;

  // Set before the context is published, and constant from then on.
  void set_identity(const TaskIdentity& identity) { identity_ = identity; }
  const TaskIdentity& identity() const { return identity_; }

  // As the kernel cuts it: 15 bytes. Empty: not known yet.
  void set_comm(absl::string_view comm);
  std::string comm() const;

  // Copies the history out; replaces it if the new one is later.
  BranchHistory history() const;
  void set_history(const BranchHistory& history);
  // The task's stack was replaced (exec): what came before says nothing about it.
  void FlushHistory();

  // Unwinds of its user stack that are under way.
  std::atomic<uint32_t> pending_deferred = 0;
  std::atomic<uint64_t> cgroup = 0;  // inode of its cgroup; 0: not known

  // The rest is for daemon/task_table.

  // One of the references is that of all global users.
  std::atomic<bool> global;
  // False: it is dead.
  bool TakeReferenceUnlessDead();
  // True: it was the last, and the context is dead now. A reference of a dead context is no more.
  bool DropReference();
  // Drops all.
  void Kill() { references_.store(0, std::memory_order_release); }
  uint32_t references() const { return references_.load(std::memory_order_acquire); }
  // It is dead and out of its slot: frees it after a grace period.
  void Retire();

 private:
  friend void FreeTaskContext(TaskContext* context);
  static void FreeRetired(rcu_head* head);

  std::atomic<uint32_t> references_ = 1;
  TaskContextPool& pool_;
  TaskIdentity identity_;
  mutable absl::Mutex mutex_;  // a leaf
  std::array<char, 16> comm_ ABSL_GUARDED_BY(mutex_) = {};
  BranchHistory history_ ABSL_GUARDED_BY(mutex_);
};

inline constexpr size_t kTaskContextBytes = sizeof(TaskContext);
// With its slot (64), its place in the table (8) and the allocator's header (16).
static_assert(kTaskContextBytes + 64 + 8 + 16 <= 1024);

class TaskContextPool {
 public:
  explicit TaskContextPool(size_t max_contexts) : max_contexts_(max_contexts) {}
  TaskContextPool(const TaskContextPool&) = delete;
  TaskContextPool& operator=(const TaskContextPool&) = delete;
  // Waits for those that are retired.
  ~TaskContextPool();

  size_t max_bytes() const { return max_contexts_ * kTaskContextBytes; }
  // What is allocated, those that wait for their grace period among it.
  size_t bytes() const { return allocated_.load() * kTaskContextBytes; }
  // Those that are not retired.
  size_t live() const;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

  // For tests: asked before each allocation, which is refused if it says false. Set before threads
  // use the pool.
  void set_may_allocate(std::function<bool()> may_allocate) {
    may_allocate_ = std::move(may_allocate);
  }

 private:
  friend class TaskContext;
  friend TaskContext* AllocTaskContext(TaskContextPool* pool, bool global);
  friend void FreeTaskContext(TaskContext* context);

  const size_t max_contexts_;
  std::atomic<size_t> allocated_ = 0;
  std::atomic<size_t> retired_ = 0;  // of the allocated
  std::atomic<uint64_t> refused_ = 0;
  std::function<bool()> may_allocate_;
};

// A context with one reference, or nullptr: the pool is at its bound, or there is no memory. Called
// without locks.
TaskContext* AllocTaskContext(TaskContextPool* pool, bool global);
// Frees one that was never published.
void FreeTaskContext(TaskContext* context);

}  // namespace lbrd::daemon
