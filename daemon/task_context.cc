#include "daemon/task_context.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace lbrd::daemon {

void TaskContext::set_comm(absl::string_view comm) {
  absl::MutexLock lock(&mutex_);
  comm_ = {};
  std::memcpy(comm_.data(), comm.data(), std::min(comm.size(), comm_.size() - 1));
}

std::string TaskContext::comm() const {
  absl::MutexLock lock(&mutex_);
  return comm_.data();
}

BranchHistory TaskContext::history() const {
  absl::MutexLock lock(&mutex_);
  return history_;
}

void TaskContext::set_history(const BranchHistory& history) {
  absl::MutexLock lock(&mutex_);
  // Sessions work at their own pace; the one that lags does not take the others back.
  if (history.time_ns() >= history_.time_ns()) history_ = history;
}

void TaskContext::FlushHistory() {
  absl::MutexLock lock(&mutex_);
  history_.Clear();
}

bool TaskContext::TakeReferenceUnlessDead() {
  uint32_t references = references_.load(std::memory_order_relaxed);
  while (references != 0) {
    if (references_.compare_exchange_weak(references, references + 1, std::memory_order_acq_rel,
                                          std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

bool TaskContext::DropReference() {
  uint32_t references = references_.load(std::memory_order_relaxed);
  while (references != 0) {
    if (references_.compare_exchange_weak(references, references - 1, std::memory_order_acq_rel,
                                          std::memory_order_relaxed)) {
      return references == 1;
    }
  }
  return false;  // killed by the task's exit
}

void TaskContext::Retire() {
  pool_.retired_.fetch_add(1, std::memory_order_relaxed);
  RcuRetire<&TaskContext::FreeRetired>(this);
}

void TaskContext::FreeRetired(rcu_head* head) {
  auto* context = static_cast<TaskContext*>(head);
  TaskContextPool& pool = context->pool_;
  FreeTaskContext(context);
  pool.retired_.fetch_sub(1);  // in this order, see live()
}

TaskContextPool::~TaskContextPool() { RcuBarrier(); }

size_t TaskContextPool::live() const {
  // Never more than there are: what is freed in between has left `allocated` only.
  const size_t retired = retired_.load();
  const size_t allocated = allocated_.load();
  return allocated > retired ? allocated - retired : 0;
}

TaskContext* AllocTaskContext(TaskContextPool* pool, bool global) {
  TaskContext* context = nullptr;
  if (pool->allocated_.fetch_add(1, std::memory_order_relaxed) < pool->max_contexts_ &&
      (!pool->may_allocate_ || pool->may_allocate_())) {
    context = new (std::nothrow) TaskContext(pool, global);
  }
  if (context == nullptr) {
    pool->allocated_.fetch_sub(1, std::memory_order_relaxed);
    pool->refused_.fetch_add(1, std::memory_order_relaxed);
  }
  return context;
}

void FreeTaskContext(TaskContext* context) {
  TaskContextPool& pool = context->pool_;
  delete context;
  pool.allocated_.fetch_sub(1);
}

}  // namespace lbrd::daemon
