// Machine: which task runs where.
#include <algorithm>
#include <utility>

#include "tests/sim/machine.h"

namespace lbrd::sim {

int32_t Machine::AnyOnline() {
  const auto start = static_cast<size_t>(random_.Below(cpus_.size()));
  for (size_t i = 0; i < cpus_.size(); ++i) {
    const size_t cpu = (start + i) % cpus_.size();
    if (cpus_[cpu].online) return static_cast<int32_t>(cpu);
  }
  return 0;
}

int32_t Machine::ChooseCpu(const Task& task) {
  // A task whose only CPU is offline runs elsewhere, as the kernel lets it.
  if (task.pinned >= 0 && online(task.pinned)) return task.pinned;
  if (!online(task.cpu) || random_.Chance(options_.migrate_per_million)) return AnyOnline();
  return task.cpu;
}

void Machine::Enqueue(Task* task) {
  const int32_t cpu = ChooseCpu(*task);
  task->state = TaskState::kQueued;
  At(cpu).queue.push_back(task);
  if (At(cpu).current == nullptr) PickNext(cpu);
  Plan(cpu);
}

void Machine::Wake(Task* task) {
  if (task == nullptr || task->state != TaskState::kSleeping) return;
  Enqueue(task);
}

void Machine::WakeSleeper(int32_t tid) {
  Task* task = table_.Find(tid);
  // It may have been woken before, and have gone to sleep again for longer; or be another task.
  if (task == nullptr || task->state != TaskState::kSleeping || task->wake_at != now_) return;
  Enqueue(task);
}

void Machine::WakeSomeIdle() {
  if (idle_tids_.empty()) return;
  const size_t index = random_.Below(idle_tids_.size());
  // It comes back to the list when it sleeps again.
  Task* task = table_.Find(std::exchange(idle_tids_[index], idle_tids_.back()));
  idle_tids_.pop_back();
  Wake(task);
}

Task* Machine::Steal(int32_t cpu) {
  for (int probe = 0; probe < 2; ++probe) {
    const int32_t victim = static_cast<int32_t>(random_.Below(cpus_.size()));
    if (victim == cpu || At(victim).queue.empty()) continue;
    Task* task = At(victim).queue.back();
    if (task->pinned >= 0) continue;
    At(victim).queue.pop_back();
    return task;
  }
  return nullptr;
}

void Machine::PickNext(int32_t cpu) {
  Cpu& c = At(cpu);
  if (c.current != nullptr || !c.online) return;
  if (!c.queue.empty()) {
    Task* next = c.queue.front();
    c.queue.pop_front();
    SwitchTo(cpu, next);
  } else if (Task* stolen = Steal(cpu); stolen != nullptr) {
    SwitchTo(cpu, stolen);
  }
}

void Machine::SwitchTo(int32_t cpu, Task* task) {
  Cpu& c = At(cpu);
  EnsureExecution(task);
  if (task->cpu != cpu) {
    ++counts_.migrations;
    observer_->Migrated(task);
    task->cpu = static_cast<int16_t>(cpu);
  }
  observer_->BeforeMode(cpu);
  c.current = task;
  task->state = TaskState::kRunning;
  ++counts_.switches;
  const uint64_t left = task->execution->step_left_ns;
  c.step_end = now_ + (left != 0 ? left : random_.Around(behaviour(*task).mean_kernel_ns));
  c.slice_end = now_ + options_.time_slice_ns;
  observer_->SwitchIn(cpu, task);
}

void Machine::LeaveCpu(int32_t cpu, bool preempted) {
  Cpu& c = At(cpu);
  Task* task = c.current;
  Execution& run = *task->execution;
  observer_->BeforeMode(cpu);
  run.step_left_ns = 0;
  if (run.mode == Mode::kUser) {
    run.mode = Mode::kKernel;
    run.work = KernelWork::kNone;
    run.kernel = {KernelFunction::kInterruptEntry, KernelFunction::kSchedule};
    run.kernel_frames = 2;
  } else if (preempted) {
    run.step_left_ns = c.step_end > now_ ? c.step_end - now_ : 1;
  }
  observer_->SwitchOut(cpu, task, preempted);
  c.current = nullptr;
  c.step_end = c.slice_end = kNever;
  if (!preempted) return;
  if (c.online && (task->pinned == cpu || !random_.Chance(options_.migrate_per_million))) {
    task->state = TaskState::kQueued;
    c.queue.push_back(task);
  } else {
    Enqueue(task);
  }
}

void Machine::Block(int32_t cpu, uint64_t wake_at) {
  Task* task = At(cpu).current;
  LeaveCpu(cpu, /*preempted=*/false);
  task->state = TaskState::kSleeping;
  task->wake_at = wake_at;
  if (wake_at != kNever) {
    Push(wake_at, Kind::kWake, task->tid);
  } else {
    idle_tids_.push_back(task->tid);
  }
  PickNext(cpu);
}

}  // namespace lbrd::sim
