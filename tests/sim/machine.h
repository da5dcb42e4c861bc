// The simulated machine: CPUs, virtual time, tasks and what they do.
//
// A discrete-event simulation. The next thing to happen, on any CPU, is found in a heap; ties go to
// what was planned first, so the same seed and the same calls give the same history to the last
// byte. Time is ns since boot; nothing ever sleeps.
//
// Per CPU: a queue of runnable tasks, time slices, and a random search for work where there is
// none. Tasks are woken on the CPU where they last ran, or elsewhere by chance.
//
// Thread rules: one owner. Pointers to tasks are valid until the machine advances.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "tests/sim/behaviour.h"
#include "tests/sim/machine_observer.h"
#include "tests/sim/program.h"
#include "tests/sim/random.h"
#include "tests/sim/task_table.h"

namespace lbrd::sim {

inline constexpr int32_t kMaxCpus = 512;

struct MachineOptions {
  uint64_t seed = 1;
  int32_t cpus = 4;
  int32_t pid_max = 4 << 20;
  size_t max_tasks = size_t{1} << 20;  // forks beyond it fail, counted
  uint64_t time_slice_ns = 4'000'000;
  uint32_t migrate_per_million = 200'000;  // of wake-ups and preemptions
  // Idle tasks woken by chance, machine-wide; 0: idle tasks sleep for ever.
  uint64_t mean_wake_idle_ns = 0;
};

struct SpawnOptions {
  uint16_t behaviour = 0;
  int32_t pinned = -1;
  bool idle = false;  // sleeps, as if it had always; else it is runnable
  std::string comm;   // empty: "sim:" and the program's name
};

struct MachineCounts {
  uint64_t forks = 0;
  uint64_t refused_forks = 0;
  uint64_t exits = 0;
  uint64_t execs = 0;
  uint64_t maps = 0;
  uint64_t switches = 0;
  uint64_t migrations = 0;
  uint64_t steps = 0;
};

class Machine {
 public:
  explicit Machine(const MachineOptions& options);
  ~Machine();

  // Before anything happens. Borrowed.
  void set_observer(MachineObserver* observer) { observer_ = observer; }

  uint64_t now() const { return now_; }
  const MachineCounts& counts() const { return counts_; }
  Random& random() { return random_; }

  std::shared_ptr<const Program> AddProgram(const ProgramOptions& options);
  uint16_t AddBehaviour(const Behaviour& behaviour);

  // A process running `program`, a child of init; nullptr: no tid is free.
  Task* Spawn(std::shared_ptr<const Program> program, const SpawnOptions& options = {});
  Task* SpawnThread(Process* process, const SpawnOptions& options = {});
  Task* SpawnKernelThread(const std::string& comm, const SpawnOptions& options = {});
  // `count` idle processes that share one copy of `program`'s mappings.
  void SpawnIdle(std::shared_ptr<const Program> program, size_t count, uint16_t behaviour = 0);
  // The caller's own process, which sleeps: the profiler.
  Task* self() { return table_.Find(self_tid_); }

  // Makes a sleeping task runnable.
  void Wake(Task* task);
  // The program that further execs run; by default each runs its own again.
  void set_exec_program(std::shared_ptr<const Program> program) {
    exec_program_ = std::move(program);
  }
  // The task does this in the kernel as soon as it can: it is woken if it sleeps. False: it is not
  // alive, or it is a kernel thread.
  bool Order(int32_t tid, KernelWork work);

  // false: no such CPU, it is so already, or it is the last one.
  bool TakeOffline(int32_t cpu);
  bool BringOnline(int32_t cpu);
  bool online(int32_t cpu) const {
    return cpu >= 0 && cpu < cpus() && cpus_[static_cast<size_t>(cpu)].online;
  }
  int32_t cpus() const { return static_cast<int32_t>(cpus_.size()); }
  Task* current(int32_t cpu) { return cpus_[static_cast<size_t>(cpu)].current; }
  Mode mode(int32_t cpu) const;
  // When the CPU's next event has changed.
  void Reconsider(int32_t cpu) { Plan(cpu); }

  // Calls `action` at a time (at once if it has passed), between two happenings.
  void At(uint64_t time, std::function<void(Machine&)> action);

  // Lets one thing happen, if one is due by `until`. False: none is, and it is `until` now.
  bool RunNext(uint64_t until);
  void Advance(uint64_t ns);

  TaskTable& tasks() { return table_; }
  const Behaviour& behaviour(const Task& task) const { return behaviours_[task.behaviour]; }

 private:
  struct Cpu {
    bool online = true;
    Task* current = nullptr;
    std::deque<Task*> queue;
    uint64_t step_end = kNever;
    uint64_t slice_end = kNever;
    uint64_t planned = kNever;  // when the heap will look at it
    uint64_t sampled_at = kNever;
  };
  enum class Kind : uint8_t { kCpu, kWake, kAction, kWakeIdle };
  struct Planned {
    uint64_t time;
    uint64_t order;
    Kind kind;
    int32_t who;  // CPU, tid, or index of an action
    bool operator>(const Planned& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };

  Cpu& At(int32_t cpu) { return cpus_[static_cast<size_t>(cpu)]; }
  void Push(uint64_t time, Kind kind, int32_t who);
  void Plan(int32_t cpu);
  void RunCpu(int32_t cpu);
  void WakeSleeper(int32_t tid);
  void WakeSomeIdle();

  // Scheduling.
  void Enqueue(Task* task);
  int32_t ChooseCpu(const Task& task);
  int32_t AnyOnline();
  void SwitchTo(int32_t cpu, Task* task);
  void LeaveCpu(int32_t cpu, bool preempted);
  void PickNext(int32_t cpu);
  Task* Steal(int32_t cpu);
  void Block(int32_t cpu, uint64_t wake_at);

  // What the current task does next.
  void Step(int32_t cpu);
  void UserStep(int32_t cpu, Task* task);
  void EnterKernel(int32_t cpu, Task* task, KernelWork work, KernelFunction entry,
                   KernelFunction leaf);
  void KernelWorkDone(int32_t cpu, Task* task);
  void BackToUser(int32_t cpu, Task* task);
  void CallFunction(int32_t cpu, Task* task, const CallSite& site);
  void SleptStack(Task* task);
  void ReturnFromFunction(int32_t cpu, Task* task);
  void PauseAt(Task* task);

  // Life and death.
  void EnsureExecution(Task* task);
  // A child of `parent`: a thread of its process, or a process of its own.
  Task* ForkFrom(int32_t cpu, Task* parent, bool thread);
  void ExecIn(int32_t cpu, Task* task, std::shared_ptr<const Program> program);
  void MapPlugIn(int32_t cpu, Task* task);
  void MapOther(int32_t cpu, Task* task);
  void ExitProcess(Process* process);
  // The task goes from where it runs or waits, and its events with it.
  void ExitTask(Task* task);

  const MachineOptions options_;
  Random random_;
  MachineObserver* observer_ = nullptr;
  std::unique_ptr<MachineObserver> nobody_;
  TaskTable table_;
  std::vector<Cpu> cpus_;
  std::vector<Behaviour> behaviours_;
  std::shared_ptr<const Program> exec_program_;
  std::priority_queue<Planned, std::vector<Planned>, std::greater<>> heap_;
  std::vector<std::function<void(Machine&)>> actions_;
  std::vector<int32_t> free_actions_;
  std::vector<int32_t> idle_tids_;
  uint64_t now_ = 1'000'000'000;  // booted a second ago
  uint64_t order_ = 0;
  uint64_t programs_ = 0;
  int32_t self_tid_ = 0;
  MachineCounts counts_;
};

// The tgid of a task's parent, or of init where that has gone.
int32_t ParentOf(const TaskTable& table, const Task& task);

}  // namespace lbrd::sim
