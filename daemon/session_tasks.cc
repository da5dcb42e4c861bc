#include "daemon/session_tasks.h"

#include <utility>

#include "daemon/rcu.h"

namespace lbrd::daemon {

absl::Status SessionTasks::Begin(std::span<const RunningTask> running) {
  if (table_ == nullptr) return absl::OkStatus();
  table_->BeginFeeding();
  begun_ = true;
  absl::Status status;
  for (const RunningTask& task : running) {
    status = AddTask(task);
    if (!status.ok()) break;
  }
  if (status.ok() && Global()) {
    // After the threads that run: so it is known whether there is room for all of them. Those that
    // were forked since the scan come as records.
    status = table_->AttachGlobal();
    global_user_ = status.ok();
  }
  if (status.ok() && Global()) {
    for (const RunningTask& task : running) {
      SetComm(task.identity.tid, UINT64_MAX, task.comm, /*exec=*/false);
    }
  }
  if (!status.ok()) End();
  return status;
}

void SessionTasks::End() {
  if (!begun_) return;
  begun_ = false;
  {
    absl::MutexLock lock(&mutex_);
    followed_.clear();
  }
  if (std::exchange(global_user_, false)) table_->DetachGlobal();
  table_->EndFeeding();
}

// OK also for a task that has exited: it has no samples any more.
absl::Status SessionTasks::AddTask(const RunningTask& task) {
  const std::optional<TaskRef> added = table_->Add(task.identity);
  if (!added.has_value()) return absl::OkStatus();
  if (Global()) {
    table_->Fork(*added);
    return absl::OkStatus();
  }
  Follow follow;
  follow.start_ns = task.identity.start_ns;
  const absl::Status attached = table_->Attach(*added, &follow.attachment);
  if (absl::IsNotFound(attached)) return absl::OkStatus();
  if (!attached.ok()) return attached;
  if (!task.comm.empty()) SetComm(task.identity.tid, UINT64_MAX, task.comm, /*exec=*/false);
  // What was told before of the same task, or of an earlier one, is given back without the lock.
  absl::MutexLock lock(&mutex_);
  std::swap(followed_[task.identity.tid], follow);
  return absl::OkStatus();
}

void SessionTasks::Apply(const pmu::TaskRecord& record) {
  if (table_ == nullptr) return;
  if (record.exit) {
    table_->Exit(record.tid, record.time);
    if (Global()) return;
    Follow gone;
    absl::MutexLock lock(&mutex_);
    const auto found = followed_.find(record.tid);
    if (found == followed_.end() || found->second.start_ns > record.time) return;
    gone = std::move(found->second);
    followed_.erase(found);
    return;
  }
  if (scope_ == Scope::kThread) return;
  // Refused: the table counts it.
  AddTask(
      {.identity = {.tid = record.tid, .tgid = record.pid, .start_ns = record.time}, .comm = {}})
      .IgnoreError();
}

void SessionTasks::Apply(const pmu::CommRecord& record) {
  if (table_ == nullptr) return;
  const uint64_t time_ns = record.who.time;
  const bool before_it_began = scope_ == Scope::kRecording && time_ns == 0;
  if (!before_it_began &&
      SetComm(record.tid, time_ns == 0 ? UINT64_MAX : time_ns, record.comm, record.exec)) {
    return;
  }
  // A thread that executes a program takes its group leader's tid, for which an exit was told.
  if (!before_it_began && (!record.exec || scope_ == Scope::kThread)) return;
  AddTask({.identity = {.tid = record.tid, .tgid = record.pid, .start_ns = time_ns}, .comm = {}})
      .IgnoreError();
  SetComm(record.tid, UINT64_MAX, record.comm, record.exec);
}

void SessionTasks::Apply(const pmu::SampleRecord& sample) {
  // The idle tasks share tid 0, and have no history.
  if (table_ == nullptr || sample.who.tid <= 0) return;
  RcuReadLock rcu;
  TaskContext* context = table_->Find(rcu, sample.who.tid, sample.who.time);
  if (context == nullptr) {
    table_->CountUnknown();
    return;
  }
  if (sample.cgroup != 0) context->cgroup.store(sample.cgroup, std::memory_order_relaxed);
}

uint64_t SessionTasks::BeginDeferred(int32_t tid, uint64_t time_ns) {
  if (table_ == nullptr || tid <= 0) return 0;
  RcuReadLock rcu;
  TaskContext* context = table_->Find(rcu, tid, time_ns);
  if (context == nullptr) return 0;
  context->pending_deferred.fetch_add(1, std::memory_order_relaxed);
  return context->birth();
}

void SessionTasks::EndDeferred(int32_t tid, uint64_t time_ns, uint64_t context) {
  if (context == 0) return;
  RcuReadLock rcu;
  TaskContext* const now = table_->Find(rcu, tid, time_ns);
  if (now != nullptr && now->birth() == context) {
    now->pending_deferred.fetch_sub(1, std::memory_order_relaxed);
  }
}

bool SessionTasks::LoadHistory(const pmu::SampleId& who, unwind::CallHistory* history) {
  if (table_ != nullptr && who.tid > 0) {
    RcuReadLock rcu;
    const TaskContext* context = table_->Find(rcu, who.tid, who.time);
    if (context != nullptr) return context->LoadHistory(history);
  }
  history->Clear();
  return false;
}

void SessionTasks::StoreHistory(const pmu::SampleId& who, const unwind::CallHistory& history) {
  if (table_ == nullptr || who.tid <= 0) return;
  RcuReadLock rcu;
  TaskContext* context = table_->Find(rcu, who.tid, who.time);
  if (context != nullptr) context->StoreHistory(history);
}

// False: it has no context.
bool SessionTasks::SetComm(int32_t tid, uint64_t time_ns, absl::string_view comm, bool exec) {
  RcuReadLock rcu;
  TaskContext* context = table_->Find(rcu, tid, time_ns);
  if (context == nullptr) return false;
  context->set_comm(comm);
  if (exec) context->FlushHistory();
  return true;
}

}  // namespace lbrd::daemon
