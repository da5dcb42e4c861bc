// Machine: what the current task of a CPU does next, one step at a time.
#include <algorithm>
#include <string>
#include <utility>

#include "tests/sim/machine.h"

namespace lbrd::sim {
namespace {

constexpr uint32_t kPausePerMillion = 100'000;
constexpr size_t kMaxFibers = 4;

// More calls below the depth that the stack hovers about, more returns above it.
uint32_t CallChance(size_t depth, uint32_t target) {
  const int64_t chance =
      500'000 + (static_cast<int64_t>(target) - static_cast<int64_t>(depth)) * 40'000;
  return static_cast<uint32_t>(std::clamp<int64_t>(chance, 50'000, 950'000));
}

}  // namespace

void Machine::PauseAt(Task* task) {
  Execution& run = *task->execution;
  const Function& leaf = task->process->space->program->function(run.stack().back().function);
  run.ip_offset = static_cast<uint32_t>(random_.Below(leaf.size));
}

void Machine::Step(int32_t cpu) {
  ++counts_.steps;
  Task* task = At(cpu).current;
  if (task->execution->mode == Mode::kUser) {
    UserStep(cpu, task);
  } else {
    KernelWorkDone(cpu, task);
  }
}

void Machine::UserStep(int32_t cpu, Task* task) {
  Cpu& c = At(cpu);
  Execution& run = *task->execution;
  const Behaviour& how = behaviour(*task);
  c.step_end = now_ + random_.Around(how.mean_step_ns);
  const auto system_call = [&](KernelWork work) {
    EnterKernel(cpu, task, work, KernelFunction::kSyscallEntry, KernelFunction::kSyscall);
  };
  if (run.ordered != KernelWork::kNone) {
    return system_call(std::exchange(run.ordered, KernelWork::kNone));
  }

  uint64_t dice = random_.Below(1'000'000);
  const auto falls_on = [&dice](uint32_t chance) {
    if (dice < chance) return true;
    dice -= chance;
    return false;
  };
  if (falls_on(how.sleep)) return system_call(KernelWork::kSleep);
  if (falls_on(how.system_call)) return system_call(KernelWork::kNone);
  if (falls_on(how.page_fault)) {
    observer_->PageFault(cpu, task);
    return EnterKernel(cpu, task, KernelWork::kNone, KernelFunction::kPageFaultEntry,
                       KernelFunction::kPageFault);
  }
  if (falls_on(how.fork)) return system_call(KernelWork::kFork);
  if (falls_on(how.thread)) return system_call(KernelWork::kThread);
  if (falls_on(how.exec)) return system_call(KernelWork::kExec);
  if (falls_on(how.exit)) return system_call(KernelWork::kExit);
  if (falls_on(how.exit_thread)) return system_call(KernelWork::kExitThread);
  if (falls_on(how.map)) return system_call(KernelWork::kMapOther);
  if (falls_on(how.rename)) return system_call(KernelWork::kRename);
  CallStack& stack = run.stack();
  if (falls_on(how.long_jump) && stack.size() > 1) {
    stack.resize(random_.Between(1, stack.size() - 1));
    return PauseAt(task);
  }
  if (falls_on(how.fiber)) {
    if (run.fibers.size() < kMaxFibers) {
      run.fibers.push_back({Frame{Program::kThreadStart, 0}});
    }
    run.fiber = static_cast<uint32_t>(random_.Below(run.fibers.size()));
    return PauseAt(task);
  }
  if (random_.Chance(kPausePerMillion)) return PauseAt(task);

  const std::vector<CallSite>& sites =
      task->process->space->program->function(stack.back().function).calls;
  const bool can_call = !sites.empty() && stack.size() < how.max_depth;
  if (can_call &&
      (stack.size() == 1 || random_.Chance(CallChance(stack.size(), how.target_depth)))) {
    CallFunction(cpu, task, sites[random_.Below(sites.size())]);
  } else if (stack.size() > 1) {
    ReturnFromFunction(cpu, task);
  } else {
    PauseAt(task);
  }
}

void Machine::CallFunction(int32_t cpu, Task* task, const CallSite& site) {
  Execution& run = *task->execution;
  const SimAddressSpace& space = *task->process->space;
  if (!space.Mapped(site.callee)) {
    return EnterKernel(cpu, task, KernelWork::kMapPlugIn, KernelFunction::kSyscallEntry,
                       KernelFunction::kSyscall);
  }
  CallStack& stack = run.stack();
  const uint64_t entry = space.FunctionAddress(site.callee);
  if (site.tail) {
    // A jump: the frame becomes the callee's, and the LBR sees nothing in call-stack mode.
    stack.back().function = site.callee;
  } else {
    observer_->Call(cpu, space.FunctionAddress(stack.back().function) + site.offset, entry);
    stack.push_back({site.callee, site.offset});
  }
  run.ip_offset = 0;
  observer_->Enter(cpu, task, entry);
  PauseAt(task);
  observer_->Touch(cpu, task, space.VariableAddress(site.callee), random_.Chance(500'000));
}

void Machine::ReturnFromFunction(int32_t cpu, Task* task) {
  Execution& run = *task->execution;
  const SimAddressSpace& space = *task->process->space;
  CallStack& stack = run.stack();
  const Frame leaf = stack.back();
  stack.pop_back();
  run.ip_offset = leaf.call_offset + kCallBytes;
  const uint64_t to = space.FunctionAddress(stack.back().function) + run.ip_offset;
  const uint64_t from =
      space.FunctionAddress(leaf.function) + space.program->function(leaf.function).size - 1;
  observer_->Return(cpu, from, to);
}

void Machine::EnterKernel(int32_t cpu, Task* task, KernelWork work, KernelFunction entry,
                          KernelFunction leaf) {
  observer_->BeforeMode(cpu);
  Execution& run = *task->execution;
  run.mode = Mode::kKernel;
  run.work = work;
  run.kernel = {entry, leaf};
  run.kernel_frames = 2;
  At(cpu).step_end = now_ + random_.Around(behaviour(*task).mean_kernel_ns);
}

void Machine::BackToUser(int32_t cpu, Task* task) {
  Execution& run = *task->execution;
  run.work = KernelWork::kNone;
  observer_->ReturnToUser(cpu, task);
  observer_->BeforeMode(cpu);
  run.mode = Mode::kUser;
  run.kernel_frames = 0;
  run.cookie = 0;
  At(cpu).step_end = now_ + random_.Around(behaviour(*task).mean_step_ns);
}

void Machine::KernelWorkDone(int32_t cpu, Task* task) {
  Execution& run = *task->execution;
  const Behaviour& how = behaviour(*task);
  if (task->kernel_thread()) {
    if (random_.Chance(500'000)) {
      run.kernel = {KernelFunction::kThread, KernelFunction::kThreadWork};
      run.kernel_frames = static_cast<uint8_t>(random_.Between(1, 2));
      At(cpu).step_end = now_ + random_.Around(how.mean_kernel_ns);
      return;
    }
    run.kernel = {KernelFunction::kThread, KernelFunction::kSchedule};
    run.kernel_frames = 2;
    return Block(cpu, how.mean_sleep_ns == 0 ? kNever : now_ + random_.Around(how.mean_sleep_ns));
  }
  if (run.work == KernelWork::kNone && run.ordered != KernelWork::kNone) {
    run.work = std::exchange(run.ordered, KernelWork::kNone);
  }
  switch (std::exchange(run.work, KernelWork::kNone)) {
    case KernelWork::kNone:
      break;
    case KernelWork::kSleep:
      run.kernel = {KernelFunction::kSyscallEntry, KernelFunction::kSyscall,
                    KernelFunction::kSchedule, KernelFunction::kSwitch};
      run.kernel_frames = 4;
      return Block(cpu, how.mean_sleep_ns == 0 ? kNever : now_ + random_.Around(how.mean_sleep_ns));
    case KernelWork::kFork:
      ForkFrom(cpu, task, /*thread=*/false);
      break;
    case KernelWork::kThread:
      ForkFrom(cpu, task, /*thread=*/true);
      break;
    case KernelWork::kExec:
      ExecIn(cpu, task, exec_program_ != nullptr ? exec_program_ : task->process->space->program);
      break;
    case KernelWork::kMapPlugIn:
      MapPlugIn(cpu, task);
      break;
    case KernelWork::kMapOther:
      MapOther(cpu, task);
      break;
    case KernelWork::kRename: {
      std::string name = task->comm;
      name = name.substr(0, name.find('~')) + "~" + std::to_string(random_.Below(100));
      task->SetComm(name);
      observer_->Named(cpu, task, /*exec=*/false);
      break;
    }
    case KernelWork::kExit:
      ExitProcess(task->process);
      return PickNext(cpu);
    case KernelWork::kExitThread:
      ExitTask(task);
      return PickNext(cpu);
  }
  BackToUser(cpu, task);
}

}  // namespace lbrd::sim
