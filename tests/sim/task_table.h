// All tasks by tid, and the processes they form. Tids are given in order and wrap at the limit, as
// the kernel's are, so that they are used again.
//
// Memory: Task and Process in slabs without gaps, 8 bytes for each tid up to the highest given.
// Thread rules: one owner.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "tests/sim/task.h"

namespace lbrd::sim {

class TaskTable {
 public:
  explicit TaskTable(int32_t pid_max) : pid_max_(pid_max) {}
  TaskTable(const TaskTable&) = delete;
  TaskTable& operator=(const TaskTable&) = delete;

  // nullptr: all tids are taken.
  Task* NewProcess();
  Task* NewThread(Process* process);
  // The task and, with its last task, the process are gone.
  void Remove(Task* task);
  // After an exec by a thread that does not lead: it becomes the leader, with the leader's tid. The
  // old leader must have been removed.
  void TakeLeadership(Task* task);

  Task* Find(int32_t tid) const {
    return tid > 0 && static_cast<size_t>(tid) < by_tid_.size() ? by_tid_[static_cast<size_t>(tid)]
                                                                : nullptr;
  }
  size_t size() const { return size_; }
  // Process IDs, ascending.
  std::vector<int32_t> Leaders() const;
  // Thread IDs of a process, ascending.
  static std::vector<int32_t> Threads(const Process& process);
  // Bytes held for all tasks that never ran.
  size_t bytes() const;

 private:
  int32_t TakeTid(Task* task);

  const int32_t pid_max_;
  int32_t last_tid_ = 0;
  uint32_t last_serial_ = 0;
  size_t size_ = 0;
  std::vector<Task*> by_tid_{nullptr};
  std::deque<Task> tasks_;
  std::deque<Process> processes_;
  std::vector<Task*> free_tasks_;
  std::vector<Process*> free_processes_;
};

}  // namespace lbrd::sim
