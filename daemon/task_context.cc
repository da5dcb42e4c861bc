#include "daemon/task_context.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "daemon/task_context_pool.h"

namespace lbrd::daemon {

TaskContext::~TaskContext() {
  absl::MutexLock lock(&mutex_);  // nobody else is here; for the analysis
  if (history_ != nullptr) pool_.CountHistories(-1);
}

void TaskContext::set_comm(absl::string_view comm) {
  absl::MutexLock lock(&mutex_);
  comm_ = {};
  std::memcpy(comm_.data(), comm.data(), std::min(comm.size(), comm_.size() - 1));
}

std::string TaskContext::comm() const {
  absl::MutexLock lock(&mutex_);
  return comm_.data();
}

bool TaskContext::LoadHistory(unwind::CallHistory* history) const {
  absl::MutexLock lock(&mutex_);
  if (history_ == nullptr || history_->empty()) {
    history->Clear();
    return false;
  }
  history_->Load(history);
  return true;
}

void TaskContext::StoreHistory(const unwind::CallHistory& history) {
  absl::MutexLock lock(&mutex_);
  if (history_ == nullptr) {
    // Most tasks never have one: they sleep, or the machine has no LBR.
    history_.reset(new (std::nothrow) BranchHistory);
    if (history_ == nullptr) return;
    pool_.CountHistories(1);
  } else if (history.time_ns < history_->time_ns()) {
    return;  // sessions work at their own pace; the one that lags does not take the others back
  }
  history_->Store(history);
}

void TaskContext::FlushHistory() {
  absl::MutexLock lock(&mutex_);
  if (history_ != nullptr) history_->Clear();
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

void TaskContext::Retire() { TaskContextRetirement(&pool_).Add(this); }

}  // namespace lbrd::daemon
