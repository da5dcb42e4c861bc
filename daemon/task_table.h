// All tasks that a session can sample, and their contexts. Looked up for every sample, wait-free;
// what sessions start and stop on.
//
// Two kinds of user have a task's context: sessions on that task (Attach), each a reference; and
// all sessions on the whole machine together (AttachGlobal), which are one reference and the
// context's mark `global`. How many of these there are is one count for the whole table.
// docs/design/ task-context.md has the protocol and why it is right; the letters are those of
// task_table.cc.
//
// The duty of who feeds it (daemon/session_tasks): BeginFeeding(); when forks are recorded, Add()
// and Fork() what runs already (from /proc) and AttachGlobal(); then what the records tell;
// EndFeeding(). All that is told may be told again, by sessions that work at their own pace: the
// same task is added once, and exits once.
//
// A task is known by its tid and when it started. The kernel says the latter in two ways, exactly
// in a fork's record and in ticks of 10 ms in /proc; two start times of one tid closer than
// kSameStartNs are one task (a tid is not given again that soon: all others come first).
//
// Bounds: contexts as the pool was told; tasks: TaskSlotStore::kMaxSlots; 12 bytes for each tid
// there can be, 48 MiB, of which only the pages of tids that were in use are resident. Thread
// rules: thread-safe. Destroyed when nobody uses it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "daemon/rcu.h"
#include "daemon/task_context.h"
#include "daemon/task_context_pool.h"
#include "daemon/task_place.h"
#include "daemon/task_slot.h"
#include "pmu/percpu_rwsem.h"

namespace lbrd::daemon {

class TaskTable;

// A task that was added. May be kept: when the task has exited it stands for nobody.
struct TaskRef {
  TaskSlot* slot = nullptr;
  uint64_t life = 0;  // the slot's when it was this task's
};

// One session's use of one task's context; ends with it. What was never attached cannot be
// detached.
class TaskAttachment {
 public:
  TaskAttachment() = default;
  TaskAttachment(TaskAttachment&& other) noexcept { *this = std::move(other); }
  TaskAttachment& operator=(TaskAttachment&& other) noexcept;
  ~TaskAttachment() { Detach(); }

  bool attached() const { return table_ != nullptr; }
  void Detach();

 private:
  friend class TaskTable;
  TaskAttachment(TaskTable* table, TaskRef task) : table_(table), task_(task) {}

  TaskTable* table_ = nullptr;
  TaskRef task_;
};

struct TaskTableStats {
  size_t tasks = 0;
  size_t contexts = 0;  // live
  size_t context_bytes = 0;
  size_t pool_bytes = 0;  // the bound of context_bytes
  size_t global_users = 0;
  uint64_t slots_walked = 0;  // by all AttachGlobal()
  uint64_t refused = 0;       // allocations: each a task whose history stays unknown, or an error
  uint64_t unknown = 0;       // samples without a context
};

class TaskTable {
 public:
  static constexpr size_t kDefaultMaxContexts = size_t{1} << 20;
  static constexpr uint64_t kSameStartNs = 20'000'000;

  explicit TaskTable(size_t max_contexts = kDefaultMaxContexts);
  TaskTable(const TaskTable&) = delete;
  TaskTable& operator=(const TaskTable&) = delete;
  ~TaskTable();

  // The task runs. One with the same tid that started earlier has exited. nullopt: a later task has
  // the tid already, so this one has exited; or there is no memory, or no such tid.
  std::optional<TaskRef> Add(const TaskIdentity& task);
  // The task was forked and added: it is to have a context if there are global users, even if its
  // parent has none. Without global users one load.
  void Fork(TaskRef child) {
    // A pairs with B: either we see that every task is to have a context, or AttachGlobal sees the
    // child's slot, which was published before this.
    if (!every_task_.load(std::memory_order_seq_cst)) return;
    ForkWhileGlobal(child);
  }
  // The task that had this tid at `time_ns` exits: its context goes, whoever has references. Waits
  // for nobody.
  void Exit(int32_t tid, uint64_t time_ns);

  // kNotFound: it has exited. kResourceExhausted: no room for its context.
  absl::Status Attach(TaskRef task, TaskAttachment* attachment);
  // When it returns OK each task that was added, and each that is forked from then on, has a
  // context (but for those of which it was refused while it was forked). kResourceExhausted: no
  // room; nothing was changed. Does not fail if there is a global user already.
  absl::Status AttachGlobal();
  // For each AttachGlobal() that returned OK.
  void DetachGlobal();
  // Forgets the tasks without a context: nobody will be told of their exit.
  void ForgetUnused();
  // Around all that one session tells. After the last one's end nobody is told of exits any more,
  // and ForgetUnused() is done; a first one that begins meanwhile waits for that.
  void BeginFeeding();
  void EndFeeding();

  // The context of the task that had this tid at `time_ns`, valid under the lock; nullptr: it has
  // none, its history is unknown.
  TaskContext* Find(const RcuReadLock&, int32_t tid, uint64_t time_ns) const {
    if (!TaskPlaces::Has(tid)) [[unlikely]]
      return nullptr;
    const TaskPlace place = places_.Load(tid);
    if (place.number() == 0) return nullptr;
    // In the step in which it started, or a sample of an earlier task that comes late. F pairs
    // with E: the key's slot is seen.
    if (place.key() >= TaskPlace::StepOf(time_ns) && !StartedBy(tid, place.key(), time_ns))
        [[unlikely]] {
      return nullptr;
    }
    return pool_.At(place.number());
  }
  std::optional<TaskRef> FindTask(int32_t tid, uint64_t time_ns) const;

  // A sample's context was looked up in vain.
  void CountUnknown() { unknown_.fetch_add(1, std::memory_order_relaxed); }

  TaskTableStats stats() const;
  TaskContextPool& pool() { return pool_; }

 private:
  friend class TaskAttachment;
  class Transition;
  enum class Attached { kYes, kGone, kNeedsCandidate, kNoMemory };

  static constexpr size_t kStripes = 64;
  struct alignas(64) Stripe {
    absl::Mutex mutex;  // a leaf; guards which slot is the latest of every kStripes-th tid
  };

  std::atomic_ref<uint32_t> LatestIndex(int32_t tid) const { return latest_.At(tid); }
  // The slot of the tid's latest task, until that has exited; nullptr: none.
  TaskSlot* Latest(int32_t tid) const {
    const uint32_t index = LatestIndex(tid).load(std::memory_order_acquire);
    return index == 0 ? nullptr : slots_.At(index);
  }
  absl::Mutex& StripeOf(int32_t tid) {
    return stripes_[static_cast<uint32_t>(tid) % kStripes].mutex;
  }

  // Whether the task whose key this is had started by then, exactly. Under an RcuReadLock.
  bool StartedBy(int32_t tid, uint64_t key, uint64_t time_ns) const;
  std::optional<TaskRef> LiveTask(int32_t tid) const;
  std::optional<TaskRef> Link(TaskSlot* slot, bool* keys_used_up);
  void Unlink(TaskSlot* slot);
  void ExitTask(TaskRef task);

  // These under an RcuReadLock. `candidate` is set to nullptr if it was published.
  Attached AttachUnderRcu(TaskRef task, TaskContext** candidate, bool global);
  // True: it was the last reference, and the context is the caller's to retire.
  bool DropUnderRcu(const TaskSlot& slot, TaskContext* context);
  TaskContext* ContextOf(const TaskSlot& slot) const;
  void KillAndRetire(TaskContext* context);
  Attached AttachTask(TaskRef task, bool global);
  void DetachTask(TaskRef task);
  void ForkWhileGlobal(TaskRef child);
  void SetEveryTask(bool value);
  void PrepareForForks();
  bool AttachAllTasks();
  void DetachAllTasks();
  bool AddGlobalUser();
  absl::Status NoRoom() const;

  TaskContextPool pool_;
  TaskSlotStore slots_;
  TaskPlaces places_;
  TidArray<uint32_t> latest_;  // a slot's index
  std::array<Stripe, kStripes> stripes_;
  std::atomic<size_t> tasks_ = 0;
  std::atomic<int32_t> newest_tid_ = 0;
  std::atomic<uint64_t> slots_walked_ = 0;
  std::atomic<uint64_t> unknown_ = 0;

  absl::Mutex feeders_mutex_;  // before the stripes'
  size_t feeders_ ABSL_GUARDED_BY(feeders_mutex_) = 0;

  // True from before AttachGlobal() walks until before DetachGlobal() does. Written under the lock
  // for writing; a fork that saw it true under the lock for reading gives its child a context
  // there.
  alignas(64) std::atomic<bool> every_task_ = false;
  std::atomic<size_t> global_users_ = 0;
  pmu::PercpuRwSem forks_;

  // One attach_global or detach_global walks at a time, without holding the mutex.
  absl::Mutex transition_mutex_;
  bool in_transition_ ABSL_GUARDED_BY(transition_mutex_) = false;
  std::pair<int32_t, int32_t> prepared_tids_ = {0, 0};  // first, end; the transition's
};

}  // namespace lbrd::daemon
