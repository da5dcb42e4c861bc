#include "daemon/task_table.h"

#include <sys/mman.h>

#include <new>
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

// Zeroed pages that are resident once they are touched.
TaskTable::TaskTable(size_t max_contexts) : pool_(max_contexts), buckets_(MapBuckets()) {}

uint32_t* TaskTable::MapBuckets() {
  void* memory = mmap(nullptr, kBuckets * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, kBuckets * sizeof(uint32_t), MADV_HUGEPAGE);
  return static_cast<uint32_t*>(memory);
}

TaskTable::~TaskTable() {
  slots_.ForEach([this](TaskSlot& slot) {
    ExitTask({&slot, slot.life.load()});
    return true;
  });
  RcuBarrier();
  munmap(buckets_, kBuckets * sizeof(uint32_t));
}

// ---- Tasks

std::optional<TaskRef> TaskTable::Add(const TaskIdentity& task) {
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
    result = Link(fresh);
    if (result.has_value()) {
      tasks_.fetch_add(1, std::memory_order_relaxed);
      return result;
    }
  }
  if (fresh != nullptr) slots_.Return(fresh);
  return result;
}

std::optional<TaskRef> TaskTable::FindTask(int32_t tid, uint64_t time_ns) const {
  RcuReadLock rcu;
  TaskSlot* slot = FindSlot(tid, time_ns);
  if (slot == nullptr) return std::nullopt;
  const uint64_t life = slot->life.load(std::memory_order_acquire);
  if (!TaskSlot::Live(life)) return std::nullopt;
  return TaskRef{slot, life};
}

// Under an RcuReadLock or the tid's stripe.
std::optional<TaskRef> TaskTable::LiveTask(int32_t tid) const {
  TaskSlot* slot = Head(tid);
  for (; slot != nullptr; slot = slot->next.load(std::memory_order_acquire)) {
    const uint64_t life = slot->life.load(std::memory_order_acquire);
    if (slot->tid == tid && TaskSlot::Live(life)) return TaskRef{slot, life};
  }
  return std::nullopt;
}

// Publishes the slot, unless a live one has its tid. One that exits may still be in the chain,
// behind ours then: look-ups by time find the latest first.
std::optional<TaskRef> TaskTable::Link(TaskSlot* slot) {
  absl::MutexLock lock(&StripeOf(slot->tid));
  if (LiveTask(slot->tid).has_value()) return std::nullopt;
  const uint64_t generation =
      (slot->life.load(std::memory_order_relaxed) | TaskSlot::kStateMask) + 1;
  const TaskRef task{slot, generation | TaskSlot::kLive};
  slot->next.store(Head(slot->tid), std::memory_order_relaxed);
  // From here on a walk meets it.
  slot->life.store(task.life, std::memory_order_seq_cst);
  // From here on it is found.
  Bucket(slot->tid).store(TaskSlotStore::IndexOf(slot), std::memory_order_release);
  return task;
}

void TaskTable::Unlink(TaskSlot* slot) {
  absl::MutexLock lock(&StripeOf(slot->tid));
  TaskSlot* const next = slot->next.load(std::memory_order_relaxed);
  TaskSlot* before = Head(slot->tid);
  if (before == slot) {
    Bucket(slot->tid).store(next == nullptr ? 0 : TaskSlotStore::IndexOf(next),
                            std::memory_order_release);
    return;
  }
  while (before->next.load(std::memory_order_relaxed) != slot) {
    before = before->next.load(std::memory_order_relaxed);
  }
  before->next.store(next, std::memory_order_release);
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
    TaskContext* context = task.slot->context.exchange(nullptr, std::memory_order_seq_cst);
    if (context != nullptr) {
      context->Kill();
      context->Retire();
    }
  }
  Unlink(task.slot);
  tasks_.fetch_sub(1, std::memory_order_relaxed);
  slots_.Retire(task.slot);
}

// ---- One context

// Gives the task a reference more: on the context it has, else on the candidate. As the reference
// of the global users it is given once.
TaskTable::Attached TaskTable::AttachUnderRcu(TaskRef task, TaskContext** candidate, bool global) {
  TaskSlot& slot = *task.slot;
  if (slot.life.load(std::memory_order_acquire) != task.life) return Attached::kGone;
  TaskContext* context = slot.context.load(std::memory_order_acquire);
  while (true) {
    if (context != nullptr && context->TakeReferenceUnlessDead()) {
      if (global && context->global.exchange(true, std::memory_order_acq_rel)) {
        DropUnderRcu(&slot, context);  // they have theirs
        return Attached::kYes;
      }
      break;
    }
    // None, or a dead one, which stays dead: it can be replaced, whoever was about to take it out.
    if (*candidate == nullptr) return Attached::kNeedsCandidate;
    (*candidate)->set_identity({.tid = slot.tid, .tgid = slot.tgid, .start_ns = slot.start_ns});
    if (slot.context.compare_exchange_strong(context, *candidate, std::memory_order_seq_cst)) {
      if (context != nullptr) context->Retire();
      context = std::exchange(*candidate, nullptr);
      break;
    }
  }
  // C pairs with D: the context is in its place, then the look at the mark.
  if (slot.life.load(std::memory_order_seq_cst) == task.life) return Attached::kYes;
  if (!global || context->global.exchange(false, std::memory_order_acq_rel)) {
    DropUnderRcu(&slot, context);
  }
  return Attached::kGone;
}

// Whoever takes a context out of its slot retires it: here, ExitTask() and AttachUnderRcu() do.
void TaskTable::DropUnderRcu(TaskSlot* slot, TaskContext* context) {
  if (!context->DropReference()) return;
  TaskContext* expected = context;
  if (slot->context.compare_exchange_strong(expected, nullptr, std::memory_order_seq_cst)) {
    context->Retire();
  }
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
  TaskContext* context = task.slot->context.load(std::memory_order_acquire);
  if (context != nullptr) DropUnderRcu(task.slot, context);
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
  return absl::ResourceExhaustedError(absl::StrCat(
      "no memory for the contexts of more tasks: ", pool_.live(), " are in use, at most ",
      pool_.max_bytes() / kTaskContextBytes, " are kept; stop a session"));
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

// Tasks that are added behind the walk's back are forked ones, and have seen every_task_.
bool TaskTable::AttachAllTasks() {
  bool all = true;
  uint64_t walked = 0;
  slots_.ForEach([&](TaskSlot& slot) {
    ++walked;
    const uint64_t life = slot.life.load(std::memory_order_seq_cst);
    if (TaskSlot::Live(life)) all = AttachTask({&slot, life}, true) != Attached::kNoMemory;
    return all;
  });
  slots_walked_.fetch_add(walked, std::memory_order_relaxed);
  return all;
}

void TaskTable::DetachAllTasks() {
  slots_.ForEach([&](TaskSlot& slot) {
    if (!TaskSlot::Live(slot.life.load(std::memory_order_seq_cst))) return true;
    RcuReadLock rcu;
    TaskContext* context = slot.context.load(std::memory_order_seq_cst);
    if (context != nullptr && context->global.load(std::memory_order_acquire) &&
        context->global.exchange(false, std::memory_order_acq_rel)) {
      DropUnderRcu(&slot, context);
    }
    return true;
  });
}

void TaskTable::ForkWhileGlobal(TaskRef child) {
  TaskContext* candidate = AllocTaskContext(&pool_, /*global=*/true);
  {
    pmu::PercpuRwSem::ReadLock lock(forks_);
    RcuReadLock rcu;
    if (every_task_.load(std::memory_order_relaxed)) AttachUnderRcu(child, &candidate, true);
  }
  if (candidate != nullptr) FreeTaskContext(candidate);
}

void TaskTable::ForgetUnused() {
  slots_.ForEach([&](TaskSlot& slot) {
    const uint64_t life = slot.life.load(std::memory_order_acquire);
    if (slot.context.load(std::memory_order_acquire) == nullptr) ExitTask({&slot, life});
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
