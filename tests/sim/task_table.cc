#include "tests/sim/task_table.h"

#include <algorithm>

namespace lbrd::sim {
namespace {

template <typename T>
T* Take(std::deque<T>* slab, std::vector<T*>* free) {
  if (free->empty()) return &slab->emplace_back();
  T* taken = free->back();
  free->pop_back();
  *taken = T();
  return taken;
}

}  // namespace

int32_t TaskTable::TakeTid(Task* task) {
  // As the kernel: upwards from the last one given; used ones again only after a wrap.
  for (int32_t tried = 0; tried < pid_max_; ++tried) {
    last_tid_ = last_tid_ + 1 >= pid_max_ ? 1 : last_tid_ + 1;
    const auto index = static_cast<size_t>(last_tid_);
    if (index >= by_tid_.size()) by_tid_.resize(std::max(index + 1, by_tid_.size() * 2), nullptr);
    if (by_tid_[index] != nullptr) continue;
    by_tid_[index] = task;
    task->serial = ++last_serial_;
    ++size_;
    return last_tid_;
  }
  return 0;
}

Task* TaskTable::NewProcess() {
  if (size_ + 1 >= static_cast<size_t>(pid_max_)) return nullptr;
  Task* task = Take(&tasks_, &free_tasks_);
  Process* process = Take(&processes_, &free_processes_);
  task->tid = TakeTid(task);
  task->process = process;
  process->tgid = task->tid;
  process->serial = task->serial;
  process->threads = 1;
  process->first = task;
  return task;
}

Task* TaskTable::NewThread(Process* process) {
  if (size_ + 1 >= static_cast<size_t>(pid_max_)) return nullptr;
  Task* task = Take(&tasks_, &free_tasks_);
  task->tid = TakeTid(task);
  task->process = process;
  task->next = process->first;
  if (task->next != nullptr) task->next->previous = task;
  process->first = task;
  ++process->threads;
  return task;
}

void TaskTable::Remove(Task* task) {
  Process* process = task->process;
  if (task->previous != nullptr) task->previous->next = task->next;
  if (task->next != nullptr) task->next->previous = task->previous;
  if (process->first == task) process->first = task->next;
  by_tid_[static_cast<size_t>(task->tid)] = nullptr;
  --size_;
  *task = Task();
  free_tasks_.push_back(task);
  if (process->first != nullptr) return;
  *process = Process();
  free_processes_.push_back(process);
}

void TaskTable::TakeLeadership(Task* task) {
  by_tid_[static_cast<size_t>(task->tid)] = nullptr;
  task->tid = task->process->tgid;
  by_tid_[static_cast<size_t>(task->tid)] = task;
}

std::vector<int32_t> TaskTable::Leaders() const {
  std::vector<int32_t> pids;
  for (const Task* task : by_tid_) {
    // A process whose leader has exited is still listed: its zombie is.
    if (task != nullptr && task->leader()) pids.push_back(task->tid);
  }
  return pids;
}

std::vector<int32_t> TaskTable::Threads(const Process& process) {
  std::vector<int32_t> tids;
  for (const Task* task = process.first; task != nullptr; task = task->next) {
    tids.push_back(task->tid);
  }
  std::sort(tids.begin(), tids.end());
  return tids;
}

size_t TaskTable::bytes() const {
  return tasks_.size() * sizeof(Task) + processes_.size() * sizeof(Process) +
         by_tid_.capacity() * sizeof(Task*);
}

}  // namespace lbrd::sim
