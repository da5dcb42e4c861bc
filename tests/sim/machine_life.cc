// Machine: how tasks begin, change and end.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/machine.h"

namespace lbrd::sim {
namespace {

constexpr uint64_t kPlugInRegion = 0x7e00'0000'0000;
constexpr uint64_t kOtherRegion = 0x7d00'0000'0000;
constexpr uint64_t kPage = 4096;

}  // namespace

Task* Machine::Spawn(std::shared_ptr<const Program> program, const SpawnOptions& options) {
  Task* task = table_.NewProcess();
  if (task == nullptr) return nullptr;
  Task* init = table_.Find(1);
  const int32_t cpu = options.pinned >= 0 ? options.pinned : AnyOnline();
  task->born = now_;
  task->parent_tgid = 1;
  task->cpu = static_cast<int16_t>(cpu);
  task->pinned = static_cast<int16_t>(options.pinned);
  task->behaviour = options.behaviour;
  task->started_by_process = true;
  task->process->space = init != task ? init->process->space : nullptr;
  task->SetComm(init->comm);
  if (init != task) observer_->Forked(cpu, init, task);
  // Then it executes its program.
  task->process->space = LoadProgram(program, random_);
  task->SetComm(options.comm.empty() ? absl::StrCat("sim:", program->name()) : options.comm);
  observer_->Executing(cpu, task);
  observer_->Named(cpu, task, /*exec=*/true);
  for (const SimMapping& mapping : task->process->space->mappings) {
    observer_->Mapped(cpu, task, mapping);
  }
  if (options.idle) {
    task->wake_at = kNever;
    idle_tids_.push_back(task->tid);
  } else {
    EnsureExecution(task);
    task->execution->fibers[0] = {Frame{Program::kProcessStart, 0}};
    Enqueue(task);
  }
  return task;
}

Task* Machine::SpawnThread(Process* process, const SpawnOptions& options) {
  Task* parent = process->first;
  Task* task = table_.NewThread(process);
  if (task == nullptr) return nullptr;
  task->born = now_;
  task->parent_tgid = parent->parent_tgid;
  task->cpu = parent->cpu;
  task->pinned = static_cast<int16_t>(options.pinned);
  task->behaviour = options.behaviour;
  task->SetComm(options.comm.empty() ? parent->comm : options.comm);
  observer_->Forked(AnyOnline(), parent, task);
  if (options.idle) {
    task->wake_at = kNever;
    idle_tids_.push_back(task->tid);
  } else {
    EnsureExecution(task);
    task->execution->fibers[0] = {Frame{Program::kThreadStart, 0}};
    Enqueue(task);
  }
  return task;
}

Task* Machine::SpawnKernelThread(const std::string& comm, const SpawnOptions& options) {
  Task* task = table_.NewProcess();
  if (task == nullptr) return nullptr;
  task->born = now_;
  task->parent_tgid = 2;
  task->cpu = static_cast<int16_t>(options.pinned >= 0 ? options.pinned : AnyOnline());
  task->pinned = static_cast<int16_t>(options.pinned);
  task->behaviour = options.behaviour;
  task->SetComm(comm);
  if (options.idle) {
    task->wake_at = kNever;
  } else {
    Enqueue(task);
  }
  return task;
}

void Machine::SpawnIdle(std::shared_ptr<const Program> program, size_t count, uint16_t behaviour) {
  const std::shared_ptr<const SimAddressSpace> space = LoadProgram(program, random_);
  const std::string comm = absl::StrCat("sim:", program->name());
  idle_tids_.reserve(idle_tids_.size() + count);
  for (size_t i = 0; i < count; ++i) {
    Task* task = table_.NewProcess();
    if (task == nullptr) return;
    task->born = now_;
    task->parent_tgid = 1;
    task->wake_at = kNever;
    task->cpu = static_cast<int16_t>(i % cpus_.size());
    task->behaviour = behaviour;
    task->started_by_process = true;
    task->process->space = space;
    task->SetComm(comm);
    idle_tids_.push_back(task->tid);
  }
}

bool Machine::Order(int32_t tid, KernelWork work) {
  Task* task = table_.Find(tid);
  if (task == nullptr || task->kernel_thread() || task->state == TaskState::kZombie) return false;
  EnsureExecution(task);
  task->execution->ordered = work;
  Wake(task);
  return true;
}

void Machine::EnsureExecution(Task* task) {
  if (task->execution != nullptr) return;
  task->execution = std::make_unique<Execution>();
  Execution& run = *task->execution;
  run.mode = Mode::kKernel;
  run.kernel = {KernelFunction::kSyscallEntry, KernelFunction::kSchedule};
  run.kernel_frames = 2;
  if (task->kernel_thread()) {
    run.kernel = {KernelFunction::kThread, KernelFunction::kSchedule};
    return;
  }
  SleptStack(task);
}

// A task that always slept did not do so in its first function.
void Machine::SleptStack(Task* task) {
  const SimAddressSpace& space = *task->process->space;
  CallStack& stack = task->execution->stack();
  stack = {Frame{task->started_by_process ? Program::kProcessStart : Program::kThreadStart, 0}};
  const uint64_t depth = random_.Between(2, std::max<uint32_t>(behaviour(*task).target_depth, 2));
  while (stack.size() < depth) {
    const std::vector<CallSite>& sites = space.program->function(stack.back().function).calls;
    if (sites.empty()) break;
    const CallSite& site = sites[random_.Below(sites.size())];
    if (site.tail || !space.Mapped(site.callee)) break;
    stack.push_back({site.callee, site.offset});
  }
  PauseAt(task);
}

Task* Machine::ForkFrom(int32_t cpu, Task* parent, bool thread) {
  if (table_.size() >= options_.max_tasks) {
    ++counts_.refused_forks;
    return nullptr;
  }
  Task* child = thread ? table_.NewThread(parent->process) : table_.NewProcess();
  if (child == nullptr) {
    ++counts_.refused_forks;
    return nullptr;
  }
  ++counts_.forks;
  child->born = now_;
  child->cpu = static_cast<int16_t>(cpu);
  child->behaviour = parent->behaviour;
  child->pinned = parent->pinned;
  child->SetComm(parent->comm);
  child->execution = std::make_unique<Execution>();
  Execution& run = *child->execution;
  run.mode = Mode::kKernel;
  run.kernel = {KernelFunction::kSyscallEntry, KernelFunction::kSyscall};
  run.kernel_frames = 2;
  if (thread) {
    child->parent_tgid = parent->parent_tgid;
    run.fibers[0] = {Frame{Program::kThreadStart, 0}};
  } else {
    child->parent_tgid = parent->tgid();
    child->process->space = parent->process->space;
    child->started_by_process = parent->started_by_process;
    run.fibers = parent->execution->fibers;
    run.fiber = parent->execution->fiber;
    run.ip_offset = parent->execution->ip_offset;
  }
  observer_->Forked(cpu, parent, child);
  Enqueue(child);
  return child;
}

void Machine::ExecIn(int32_t cpu, Task* task, std::shared_ptr<const Program> program) {
  Process* process = task->process;
  ++counts_.execs;
  for (const int32_t tid : TaskTable::Threads(*process)) {
    Task* other = table_.Find(tid);
    if (other == nullptr || other == task) continue;
    if (other->state != TaskState::kZombie) ExitTask(other);
  }
  if (!task->leader()) {
    // The old leader waits as a zombie for this.
    if (Task* leader = table_.Find(process->tgid); leader != nullptr) table_.Remove(leader);
    table_.TakeLeadership(task);
  }
  Execution& run = *task->execution;
  run.fibers = {CallStack{Frame{Program::kProcessStart, 0}}};
  run.fiber = 0;
  run.ip_offset = 0;
  task->started_by_process = true;
  process->space = LoadProgram(program, random_);
  observer_->Executing(cpu, task);
  task->SetComm(absl::StrCat("sim:", program->name()));
  observer_->Named(cpu, task, /*exec=*/true);
  const std::shared_ptr<const SimAddressSpace> space = process->space;
  for (const SimMapping& mapping : space->mappings) observer_->Mapped(cpu, task, mapping);
}

void Machine::MapPlugIn(int32_t cpu, Task* task) {
  const auto index = static_cast<size_t>(ModuleKind::kPlugIn);
  if (task->process->space->base[index] != 0) return;  // another thread was faster
  ++counts_.maps;
  auto space = std::make_shared<SimAddressSpace>(*task->process->space);
  const SimMapping mapping =
      space->MapModule(ModuleKind::kPlugIn, kPlugInRegion + random_.Below(1 << 24) * kPage * 16);
  task->process->space = std::move(space);
  observer_->Mapped(cpu, task, mapping);
}

void Machine::MapOther(int32_t cpu, Task* task) {
  ++counts_.maps;
  auto space = std::make_shared<SimAddressSpace>(*task->process->space);
  // A few places only, so that they are mapped over and unmapped; of which the kernel says nothing.
  const uint64_t start = kOtherRegion + random_.Below(8) * kPage * 16;
  const uint64_t end = start + random_.Between(1, 24) * kPage;
  const bool unmapped = random_.Chance(300'000) && space->Unmap(start, end);
  const SimMapping mapping{.start = start,
                           .end = end,
                           .file_offset = 0,
                           .executable = true,
                           .writable = false,
                           .module = nullptr};
  if (!unmapped) space->Map(mapping);
  task->process->space = std::move(space);
  if (!unmapped) observer_->Mapped(cpu, task, mapping);
}

void Machine::ExitProcess(Process* process) {
  std::vector<int32_t> tids = TaskTable::Threads(*process);
  // The leader last, so that the process is whole until then.
  std::reverse(tids.begin(), tids.end());
  for (const int32_t tid : tids) {
    Task* task = table_.Find(tid);
    if (task != nullptr && task->state != TaskState::kZombie) ExitTask(task);
  }
}

void Machine::ExitTask(Task* task) {
  ++counts_.exits;
  Process* process = task->process;
  int32_t cpu = task->cpu;
  if (!online(cpu)) cpu = AnyOnline();
  if (task->state == TaskState::kRunning) {
    observer_->BeforeMode(cpu);
    task->execution->mode = Mode::kKernel;
    task->execution->kernel = {KernelFunction::kSyscallEntry, KernelFunction::kSyscall};
    task->execution->kernel_frames = 2;
  }
  observer_->Exiting(cpu, task);
  if (task->state == TaskState::kRunning) {
    LeaveCpu(cpu, /*preempted=*/false);
  } else if (task->state == TaskState::kQueued) {
    for (Cpu& c : cpus_) {
      const auto at = std::find(c.queue.begin(), c.queue.end(), task);
      if (at == c.queue.end()) continue;
      c.queue.erase(at);
      break;
    }
  }
  const int32_t tgid = process->tgid;
  const bool last = --process->threads == 0;
  if (task->leader() && !last) {
    task->state = TaskState::kZombie;
    task->execution.reset();
  } else {
    table_.Remove(task);
    Task* leader = last ? table_.Find(tgid) : nullptr;
    if (leader != nullptr) table_.Remove(leader);
  }
  if (last) observer_->ProcessGone(tgid);
  // A CPU that it left from afar finds itself something else.
  PickNext(cpu);
  Plan(cpu);
}

}  // namespace lbrd::sim
