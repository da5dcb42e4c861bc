// What a machine tells the perf side of the simulated kernel, as the kernel's own hooks do.
//
// `cpu` is where it happens, and its current task is who does it. Called by the Machine in the
// middle of its work: an observer may look at it but not advance it.
#pragma once

#include <cstdint>

#include "tests/sim/task.h"

namespace lbrd::sim {

inline constexpr uint64_t kNever = UINT64_MAX;

class MachineObserver {
 public:
  MachineObserver() = default;
  MachineObserver(const MachineObserver&) = delete;
  MachineObserver& operator=(const MachineObserver&) = delete;
  virtual ~MachineObserver() = default;

  // When this CPU's next event is due, ns; kNever: none is.
  virtual uint64_t NextDue(int32_t cpu) = 0;
  // Something is due. True: a sample was taken at this very time.
  virtual bool Due(int32_t cpu) = 0;

  // The CPU's mode is about to change: what ran until now ran in the old one.
  virtual void BeforeMode(int32_t cpu) = 0;
  // The current task is about to leave the CPU (it is in the kernel), or has just come.
  virtual void SwitchOut(int32_t cpu, Task* task, bool preempted) = 0;
  virtual void SwitchIn(int32_t cpu, Task* task) = 0;
  virtual void Migrated(Task* task) = 0;
  virtual void ReturnToUser(int32_t cpu, Task* task) = 0;
  virtual void PageFault(int32_t cpu, Task* task) = 0;

  // Branches of user mode, and the data that a function touches.
  virtual void Call(int32_t cpu, uint64_t from, uint64_t to) = 0;
  virtual void Return(int32_t cpu, uint64_t from, uint64_t to) = 0;
  virtual void Enter(int32_t cpu, Task* task, uint64_t entry) = 0;
  virtual void Touch(int32_t cpu, Task* task, uint64_t address, bool write) = 0;

  // `parent` is current, except for what the test made by hand: then it is null.
  virtual void Forked(int32_t cpu, Task* parent, Task* child) = 0;
  virtual void Exiting(int32_t cpu, Task* task) = 0;
  // The process has no running thread any more.
  virtual void ProcessGone(int32_t tgid) = 0;
  // After Executing() the name and the mappings follow.
  virtual void Executing(int32_t cpu, Task* task) = 0;
  virtual void Named(int32_t cpu, Task* task, bool exec) = 0;
  virtual void Mapped(int32_t cpu, Task* task, const SimMapping& mapping) = 0;

  virtual void CpuOffline(int32_t cpu) = 0;
  virtual void CpuOnline(int32_t cpu) = 0;
};

}  // namespace lbrd::sim
