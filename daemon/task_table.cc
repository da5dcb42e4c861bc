#include "daemon/task_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {

TaskAttachment& TaskAttachment::operator=(TaskAttachment&& other) noexcept {
  if (this != &other) {
    Detach();
    table_ = std::exchange(other.table_, nullptr);
    task_ = other.task_;
  }
  return *this;
}

void TaskAttachment::Detach() {
  if (TaskTable* table = std::exchange(table_, nullptr); table != nullptr) table->DetachTask(task_);
}

TaskTable::TaskTable(size_t max_contexts) : pool_(max_contexts) {}

TaskTable::~TaskTable() {
  slots_.ForEach([this](TaskSlot& slot) {
    ExitTask({&slot, slot.life.load()});
    return true;
  });
  RcuBarrier();
}

// ---- Tasks

std::optional<TaskRef> TaskTable::Add(const TaskIdentity& task) {
  // A recording can claim any tid.
  if (!TaskPlaces::Has(task.tid)) return std::nullopt;
  TaskSlot* fresh = nullptr;
  std::optional<TaskRef> result;
  while (true) {
    std::optional<TaskRef> there;
    {
      RcuReadLock rcu;
      there = LiveTask(task.tid);
      if (there.has_value()) {
        const uint64_t start_ns = there->slot->start_ns;
        if (start_ns > task.start_ns + kSameStartNs) break;  // of a later task
        if (task.start_ns <= start_ns + kSameStartNs) {
          result = there;
          break;
        }
      }
    }
    if (there.has_value()) {
      ExitTask(*there);  // we were not told
      continue;
    }
    if (fresh == nullptr) {
      fresh = slots_.Take();
      if (fresh == nullptr) break;
      fresh->tid = task.tid;
      fresh->tgid = task.tgid;
      fresh->start_ns = task.start_ns;
    }
    bool used_up = false;
    result = Link(fresh, &used_up);
    if (used_up) break;
    if (result.has_value()) {
      tasks_.fetch_add(1, std::memory_order_relaxed);
      return result;
    }
  }
  if (fresh != nullptr) slots_.Return(fresh);
  return result;
}

std::optional<TaskRef> TaskTable::FindTask(int32_t tid, uint64_t time_ns) const {
  if (!TaskPlaces::Has(tid)) return std::nullopt;
  RcuReadLock rcu;
  const std::optional<TaskRef> task = LiveTask(tid);
  return task.has_value() && task->slot->start_ns <= time_ns ? task : std::nullopt;
}

// Under an RcuReadLock or the tid's stripe.
std::optional<TaskRef> TaskTable::LiveTask(int32_t tid) const {
  TaskSlot* slot = Latest(tid);
  if (slot == nullptr) return std::nullopt;
  const uint64_t life = slot->life.load(std::memory_order_acquire);
  if (!TaskSlot::Live(life)) return std::nullopt;
  return TaskRef{slot, life};
}

bool TaskTable::StartedBy(int32_t tid, uint64_t key, uint64_t time_ns) const {
  const TaskSlot* slot = Latest(tid);
  return slot != nullptr && slot->key == key && slot->start_ns <= time_ns;
}

// Publishes the slot, unless a live one has its tid. One that exits may still be the latest, and
// its context may still be in the place that is the slot's from now on.
std::optional<TaskRef> TaskTable::Link(TaskSlot* slot, bool* keys_used_up) {
  const int32_t tid = slot->tid;
  absl::MutexLock lock(&StripeOf(tid));
  if (LiveTask(tid).has_value()) return std::nullopt;
  // Keys change here only.
  const uint64_t last_key = places_.Load(tid, std::memory_order_relaxed).key();
  if (last_key == TaskPlace::kMaxKey) {
    *keys_used_up = true;  // by start times 500 years from now, which only a recording can claim
    return std::nullopt;
  }
  slot->key = std::max(TaskPlace::StepOf(slot->start_ns), last_key + 1);
  const uint64_t generation =
      (slot->life.load(std::memory_order_relaxed) | TaskSlot::kStateMask) + 1;
  const TaskRef task{slot, generation | TaskSlot::kLive};
  // E pairs with F: who sees the key in the place sees whose it is.
  LatestIndex(tid).store(TaskSlotStore::IndexOf(slot), std::memory_order_release);
  {
    // From here on nobody can attach to a task that had the tid before. What was attached to it
    // while it exited, and is about to be taken back, is taken out here.
    RcuReadLock rcu;
    const TaskPlace before = places_.Exchange(tid, TaskPlace::Of(slot->key, 0));
    if (before.number() != 0) KillAndRetire(pool_.At(before.number()));
  }
  newest_tid_.store(tid, std::memory_order_relaxed);
  // From here on a walk meets it, and it is found.
  slot->life.store(task.life, std::memory_order_seq_cst);
  return task;
}

void TaskTable::Unlink(TaskSlot* slot) {
  const int32_t tid = slot->tid;
  absl::MutexLock lock(&StripeOf(tid));
  if (Latest(tid) == slot) LatestIndex(tid).store(0, std::memory_order_release);
}

void TaskTable::Exit(int32_t tid, uint64_t time_ns) {
  if (const std::optional<TaskRef> task = FindTask(tid, time_ns); task.has_value()) {
    ExitTask(*task);
  }
}

// Takes no part in the rwsem: a task that exits waits for no walk.
void TaskTable::ExitTask(TaskRef task) {
  uint64_t life = task.life;
  if (!TaskSlot::Live(life)) return;
  // D: the mark, then the look at the context. Who attaches does it the other way round (C), so one
  // of the two takes the context out. One thread gets past this.
  if (!task.slot->life.compare_exchange_strong(life, life ^ TaskSlot::kLive ^ TaskSlot::kExiting,
                                               std::memory_order_seq_cst)) {
    return;
  }
  {
    RcuReadLock rcu;
    const int32_t tid = task.slot->tid;
    TaskPlace place = places_.Load(tid, std::memory_order_seq_cst);
    // With another key it is a later task's, and what was left of this one was taken out then.
    while (place.key() == task.slot->key && place.number() != 0) {
      if (places_.Replace(tid, &place, TaskPlace::Of(place.key(), 0))) {
        KillAndRetire(pool_.At(place.number()));
        break;
      }
    }
  }
  Unlink(task.slot);
  tasks_.fetch_sub(1, std::memory_order_relaxed);
  slots_.Retire(task.slot);
}

// ---- One context

// It was taken out of its place.
void TaskTable::KillAndRetire(TaskContext* context) {
  context->Kill();
  context->Retire();
}

// nullptr: the task has none, or has exited and a later one has its place.
TaskContext* TaskTable::ContextOf(const TaskSlot& slot) const {
  const TaskPlace place = places_.Load(slot.tid, std::memory_order_seq_cst);
  return place.key() == slot.key && place.number() != 0 ? pool_.At(place.number()) : nullptr;
}

// Gives the task a reference more: on the context it has, else on the candidate. As the reference
// of the global users it is given once.
TaskTable::Attached TaskTable::AttachUnderRcu(TaskRef task, TaskContext** candidate, bool global) {
  const TaskSlot& slot = *task.slot;
  if (slot.life.load(std::memory_order_acquire) != task.life) return Attached::kGone;
  const int32_t tid = slot.tid;
  TaskPlace place = places_.Load(tid);
  TaskContext* context = nullptr;
  while (true) {
    if (place.key() != slot.key) return Attached::kGone;  // a later task has the tid
    context = place.number() == 0 ? nullptr : pool_.At(place.number());
    if (context != nullptr && context->TakeReferenceUnlessDead()) {
      if (global && context->global.exchange(true, std::memory_order_acq_rel)) {
        if (DropUnderRcu(slot, context)) context->Retire();  // they have theirs
        return Attached::kYes;
      }
      break;
    }
    // None, or a dead one, which stays dead: it can be replaced, whoever was about to take it out.
    if (*candidate == nullptr) return Attached::kNeedsCandidate;
    (*candidate)->set_identity({.tid = tid, .tgid = slot.tgid, .start_ns = slot.start_ns});
    if (places_.Replace(tid, &place, TaskPlace::Of(slot.key, (*candidate)->number()))) {
      if (context != nullptr) context->Retire();
      context = std::exchange(*candidate, nullptr);
      break;
    }
  }
  // C pairs with D: the context is in its place, then the look at the mark.
  if (slot.life.load(std::memory_order_seq_cst) == task.life) return Attached::kYes;
  if (!global || context->global.exchange(false, std::memory_order_acq_rel)) {
    if (DropUnderRcu(slot, context)) context->Retire();
  }
  return Attached::kGone;
}

// Whoever takes a context out of its place retires it: the caller, KillAndRetire()'s and
// AttachUnderRcu() do.
bool TaskTable::DropUnderRcu(const TaskSlot& slot, TaskContext* context) {
  if (!context->DropReference()) return false;
  TaskPlace expected = TaskPlace::Of(slot.key, context->number());
  return places_.Replace(slot.tid, &expected, TaskPlace::Of(slot.key, 0));
}

TaskTable::Attached TaskTable::AttachTask(TaskRef task, bool global) {
  TaskContext* candidate = nullptr;
  {
    RcuReadLock rcu;
    const Attached attached = AttachUnderRcu(task, &candidate, global);
    if (attached != Attached::kNeedsCandidate) return attached;
  }
  candidate = AllocTaskContext(&pool_, global);
  if (candidate == nullptr) return Attached::kNoMemory;
  Attached attached;
  {
    RcuReadLock rcu;
    attached = AttachUnderRcu(task, &candidate, global);
  }
  if (candidate != nullptr) FreeTaskContext(candidate);
  return attached;
}

void TaskTable::DetachTask(TaskRef task) {
  RcuReadLock rcu;
  if (task.slot->life.load(std::memory_order_acquire) != task.life) return;
  TaskContext* context = ContextOf(*task.slot);
  if (context != nullptr && DropUnderRcu(*task.slot, context)) context->Retire();
}

absl::Status TaskTable::Attach(TaskRef task, TaskAttachment* attachment) {
  switch (AttachTask(task, /*global=*/false)) {
    case Attached::kYes:
      *attachment = TaskAttachment(this, task);
      return absl::OkStatus();
    case Attached::kGone:
      return absl::NotFoundError("the task has exited");
    default:
      return NoRoom();
  }
}

absl::Status TaskTable::NoRoom() const {
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for the contexts of more tasks: ", pool_.live(),
                   " are in use, at most ", pool_.max_contexts(), " are kept; stop a session"));
}

// ---- All contexts

// The one thread that changes what holds for every task. Holds no lock while it is that.
class TaskTable::Transition {
 public:
  explicit Transition(TaskTable* table) : table_(*table) {
    absl::MutexLock lock(&table_.transition_mutex_);
    table_.transition_mutex_.Await(absl::Condition(
        +[](bool* in_transition) { return !*in_transition; }, &table_.in_transition_));
    table_.in_transition_ = true;
  }
  Transition(const Transition&) = delete;
  Transition& operator=(const Transition&) = delete;
  ~Transition() {
    absl::MutexLock lock(&table_.transition_mutex_);
    table_.in_transition_ = false;
  }

 private:
  TaskTable& table_;
};

bool TaskTable::AddGlobalUser() {
  size_t users = global_users_.load(std::memory_order_acquire);
  while (users != 0) {
    if (global_users_.compare_exchange_weak(users, users + 1, std::memory_order_acq_rel))
      return true;
  }
  return false;
}

absl::Status TaskTable::AttachGlobal() {
  if (AddGlobalUser()) return absl::OkStatus();
  Transition transition(this);
  if (AddGlobalUser()) return absl::OkStatus();  // somebody did the work while we waited
  PrepareForForks();
  SetEveryTask(true);
  if (!AttachAllTasks()) {
    SetEveryTask(false);
    DetachAllTasks();
    return NoRoom();
  }
  global_users_.store(1, std::memory_order_release);
  return absl::OkStatus();
}

void TaskTable::DetachGlobal() {
  size_t users = global_users_.load(std::memory_order_acquire);
  while (users > 1) {
    if (global_users_.compare_exchange_weak(users, users - 1, std::memory_order_acq_rel)) return;
  }
  Transition transition(this);
  if (global_users_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  SetEveryTask(false);
  DetachAllTasks();
}

// The whole write section, however many tasks there are. When it is over, every fork that saw the
// old value has done what follows from it.
void TaskTable::SetEveryTask(bool value) {
  pmu::PercpuRwSem::WriteLock lock(forks_);
  // B pairs with A; the walk that follows looks at the slots after it.
  every_task_.store(value, std::memory_order_seq_cst);
}

// A fork should not wait for memory, which takes 50 us and more while a walk has the kernel busy
// with it. The kernel counts tids upwards: those of the next forks follow the newest.
void TaskTable::PrepareForForks() {
  constexpr int32_t kTidsAhead = 8192;  // 96 KiB
  pool_.PrepareRoom();
  const int32_t newest = newest_tid_.load(std::memory_order_relaxed);
  auto& [first, end] = prepared_tids_;
  if (first <= newest && newest < end - kTidsAhead / 2) return;
  first = newest;
  end = newest + kTidsAhead;
  places_.Prepare(first, kTidsAhead);
  latest_.Prepare(first, kTidsAhead);
}

// Tasks that are added behind the walk's back are forked ones, and have seen every_task_.
bool TaskTable::AttachAllTasks() {
  bool all = true;
  uint64_t walked = 0;
  slots_.ForEach([&](TaskSlot& slot) {
    if (walked++ % TaskContextPool::kPrepareEvery == 0) PrepareForForks();
    const uint64_t life = slot.life.load(std::memory_order_seq_cst);
    if (TaskSlot::Live(life)) all = AttachTask({&slot, life}, true) != Attached::kNoMemory;
    return all;
  });
  slots_walked_.fetch_add(walked, std::memory_order_relaxed);
  return all;
}

void TaskTable::DetachAllTasks() {
  TaskContextRetirement retirement(&pool_);
  slots_.ForEach([&](TaskSlot& slot) {
    RcuReadLock rcu;
    if (!TaskSlot::Live(slot.life.load(std::memory_order_seq_cst))) return true;
    TaskContext* context = ContextOf(slot);
    if (context != nullptr && context->global.load(std::memory_order_acquire) &&
        context->global.exchange(false, std::memory_order_acq_rel) && DropUnderRcu(slot, context)) {
      retirement.Add(context);
    }
    return true;
  });
}

void TaskTable::ForkWhileGlobal(TaskRef child) {
  TaskContext* candidate = AllocTaskContext(&pool_, /*global=*/true);
  {
    // Not held: every_task_ is about to change, or just did, and a fork need not wait for that. The
    // walk of an AttachGlobal() comes after this, and meets the child (J, I: its slot is live). If
    // it is a DetachGlobal(), nobody needs the context any more.
    pmu::PercpuRwSem::TryReadLock lock(forks_);
    RcuReadLock rcu;
    if (lock.held() && every_task_.load(std::memory_order_relaxed)) {
      AttachUnderRcu(child, &candidate, true);
    }
  }
  if (candidate != nullptr) FreeTaskContext(candidate);
}

void TaskTable::ForgetUnused() {
  slots_.ForEach([&](TaskSlot& slot) {
    RcuReadLock rcu;
    const uint64_t life = slot.life.load(std::memory_order_acquire);
    if (TaskSlot::Live(life) && ContextOf(slot) == nullptr) ExitTask({&slot, life});
    return true;
  });
}

void TaskTable::BeginFeeding() {
  absl::MutexLock lock(&feeders_mutex_);
  ++feeders_;
}

void TaskTable::EndFeeding() {
  absl::MutexLock lock(&feeders_mutex_);
  if (--feeders_ == 0) ForgetUnused();
}

TaskTableStats TaskTable::stats() const {
  return {.tasks = tasks_.load(std::memory_order_relaxed),
          .contexts = pool_.live(),
          .context_bytes = pool_.bytes(),
          .pool_bytes = pool_.max_bytes(),
          .global_users = global_users_.load(std::memory_order_acquire),
          .slots_walked = slots_walked_.load(std::memory_order_relaxed),
          .refused = pool_.refused(),
          .unknown = unknown_.load(std::memory_order_relaxed)};
}

}  // namespace lbrd::daemon
