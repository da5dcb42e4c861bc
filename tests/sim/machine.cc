#include "tests/sim/machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::sim {
namespace {

class Nobody : public MachineObserver {
 public:
  uint64_t NextDue(int32_t) override { return kNever; }
  bool Due(int32_t) override { return false; }
  void BeforeMode(int32_t) override {}
  void SwitchOut(int32_t, Task*, bool) override {}
  void SwitchIn(int32_t, Task*) override {}
  void Migrated(Task*) override {}
  void ReturnToUser(int32_t, Task*) override {}
  void PageFault(int32_t, Task*) override {}
  void Call(int32_t, uint64_t, uint64_t) override {}
  void Return(int32_t, uint64_t, uint64_t) override {}
  void Enter(int32_t, Task*, uint64_t) override {}
  void Touch(int32_t, Task*, uint64_t, bool) override {}
  void Forked(int32_t, Task*, Task*) override {}
  void Exiting(int32_t, Task*) override {}
  void ProcessGone(int32_t) override {}
  void Executing(int32_t, Task*) override {}
  void Named(int32_t, Task*, bool) override {}
  void Mapped(int32_t, Task*, const SimMapping&) override {}
  void CpuOffline(int32_t) override {}
  void CpuOnline(int32_t) override {}
};

}  // namespace

int32_t ParentOf(const TaskTable& table, const Task& task) {
  // A tid may be in use again: its new owner is younger than the child.
  const Task* parent = table.Find(task.parent_tgid);
  return parent != nullptr && parent->born <= task.born ? task.parent_tgid : 1;
}

Machine::Machine(const MachineOptions& options)
    : options_(options),
      random_(options.seed),
      nobody_(std::make_unique<Nobody>()),
      table_(options.pid_max),
      cpus_(static_cast<size_t>(std::clamp(options.cpus, 1, kMaxCpus))) {
  observer_ = nobody_.get();
  AddBehaviour({});
  ProgramOptions plain;
  plain.name = "init";
  plain.functions = 12;
  const std::shared_ptr<const Program> program = AddProgram(plain);
  SpawnOptions asleep;
  asleep.idle = true;
  asleep.comm = "sim:init";
  Spawn(program, asleep);
  SpawnKernelThread("sim:kthreadd", asleep);
  asleep.comm = "sim:profiler";
  self_tid_ = Spawn(program, asleep)->tid;
  idle_tids_.clear();  // these three are never woken by chance
  if (options_.mean_wake_idle_ns != 0) {
    Push(now_ + random_.Around(options_.mean_wake_idle_ns), Kind::kWakeIdle, 0);
  }
}

Machine::~Machine() = default;

std::shared_ptr<const Program> Machine::AddProgram(const ProgramOptions& options) {
  return Program::Make(options, programs_++, random_);
}

uint16_t Machine::AddBehaviour(const Behaviour& behaviour) {
  behaviours_.push_back(behaviour);
  return static_cast<uint16_t>(behaviours_.size() - 1);
}

Mode Machine::mode(int32_t cpu) const {
  const Task* task = cpus_[static_cast<size_t>(cpu)].current;
  return task == nullptr ? Mode::kIdle : task->execution->mode;
}

void Machine::Push(uint64_t time, Kind kind, int32_t who) {
  heap_.push({std::max(time, now_), order_++, kind, who});
}

void Machine::At(uint64_t time, std::function<void(Machine&)> action) {
  if (free_actions_.empty()) {
    free_actions_.push_back(static_cast<int32_t>(actions_.size()));
    actions_.emplace_back();
  }
  const int32_t index = free_actions_.back();
  free_actions_.pop_back();
  actions_[static_cast<size_t>(index)] = std::move(action);
  Push(time, Kind::kAction, index);
}

void Machine::Plan(int32_t cpu) {
  Cpu& c = At(cpu);
  if (!c.online) return;
  uint64_t next = observer_->NextDue(cpu);
  if (c.current != nullptr) {
    next = std::min(next, c.step_end);
    if (!c.queue.empty()) next = std::min(next, c.slice_end);
  }
  // An earlier look that is planned already finds nothing to do, and plans again.
  if (next >= c.planned) return;
  c.planned = std::max(next, now_);
  Push(c.planned, Kind::kCpu, cpu);
}

bool Machine::RunNext(uint64_t until) {
  while (!heap_.empty() && heap_.top().time <= until) {
    const Planned next = heap_.top();
    heap_.pop();
    if (next.kind == Kind::kCpu) {
      Cpu& c = At(next.who);
      if (c.planned != next.time) continue;  // planned anew since
      now_ = next.time;
      c.planned = kNever;
      RunCpu(next.who);
    } else if (next.kind == Kind::kWake) {
      now_ = next.time;
      WakeSleeper(next.who);
    } else if (next.kind == Kind::kWakeIdle) {
      now_ = next.time;
      WakeSomeIdle();
      Push(now_ + random_.Around(options_.mean_wake_idle_ns), Kind::kWakeIdle, 0);
    } else {
      now_ = next.time;
      const std::function<void(Machine&)> action =
          std::exchange(actions_[static_cast<size_t>(next.who)], nullptr);
      free_actions_.push_back(next.who);
      action(*this);
    }
    return true;
  }
  now_ = std::max(now_, until);
  return false;
}

void Machine::Advance(uint64_t ns) {
  const uint64_t until = now_ + ns;
  while (RunNext(until)) {
  }
}

void Machine::RunCpu(int32_t cpu) {
  Cpu& c = At(cpu);
  if (!c.online) return;
  if (observer_->NextDue(cpu) <= now_ && observer_->Due(cpu)) c.sampled_at = now_;
  // What was sampled now stays so for this nanosecond: (CPU, time, tid) then names one stack.
  const bool sampled = c.sampled_at == now_;
  if (c.current != nullptr && c.step_end <= now_) {
    if (sampled) {
      c.step_end = now_ + 1;
    } else {
      Step(cpu);
    }
  } else if (c.current != nullptr && c.slice_end <= now_ && !c.queue.empty()) {
    if (sampled) {
      c.slice_end = now_ + 1;
    } else {
      LeaveCpu(cpu, /*preempted=*/true);
      PickNext(cpu);
    }
  }
  Plan(cpu);
}

bool Machine::TakeOffline(int32_t cpu) {
  if (!online(cpu)) return false;
  const auto up = std::count_if(cpus_.begin(), cpus_.end(), [](const Cpu& c) { return c.online; });
  if (up == 1) return false;
  observer_->BeforeMode(cpu);
  Cpu& c = At(cpu);
  // First of all, so that nobody is put here any more.
  c.online = false;
  c.planned = kNever;
  if (c.current != nullptr) LeaveCpu(cpu, /*preempted=*/true);
  observer_->CpuOffline(cpu);
  std::deque<Task*> moving;
  moving.swap(c.queue);
  for (Task* task : moving) Enqueue(task);
  return true;
}

bool Machine::BringOnline(int32_t cpu) {
  if (cpu < 0 || cpu >= cpus() || At(cpu).online) return false;
  At(cpu).online = true;
  observer_->CpuOnline(cpu);
  PickNext(cpu);
  Plan(cpu);
  return true;
}

}  // namespace lbrd::sim
