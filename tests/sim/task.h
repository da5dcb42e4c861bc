// Simulated tasks and processes: who they are and where they stand.
//
// A task that never ran costs one Task and, if it leads a process, one Process: kIdleTaskBytes
// below. What running needs (stacks, the kernel path, saved LBR) is made when it first runs.
//
// Thread rules: owned by the Machine, whoever owns that.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tests/sim/address_space.h"
#include "tests/sim/lbr.h"
#include "tests/sim/program.h"

namespace lbrd::sim {

struct Task;
struct Event;

// One active function: called from the instruction at `call_offset` of the frame before it.
struct Frame {
  uint32_t function = 0;
  uint32_t call_offset = 0;
};
using CallStack = std::vector<Frame>;  // oldest first; never empty

// What a task does in the kernel before it goes on.
enum class KernelWork : uint8_t {
  kNone,   // back to user mode
  kSleep,  // block, then back
  kFork,
  kThread,
  kExec,
  kExit,  // the whole process
  kExitThread,
  kMapPlugIn,
  kMapOther,
  kRename,
};

enum class Mode : uint8_t { kIdle, kUser, kKernel };

// The running side of a task.
struct Execution {
  std::vector<CallStack> fibers = std::vector<CallStack>(1);
  uint32_t fiber = 0;
  uint32_t ip_offset = 1;  // of the interrupted instruction, from the leaf function's entry
  Mode mode = Mode::kUser;
  KernelWork work = KernelWork::kNone;
  KernelWork ordered = KernelWork::kNone;  // done at its next step
  uint8_t kernel_frames = 0;               // used of `kernel`, oldest first
  std::array<KernelFunction, 4> kernel{};
  uint64_t step_left_ns = 0;  // of the present step, where it was interrupted
  // Cookie of the user chain that was asked for since the task entered the kernel; 0: none.
  uint64_t cookie = 0;
  std::unique_ptr<Lbr> saved_lbr;  // null: nothing was saved
  uint64_t saved_lbr_epoch = 0;    // void once LBR was given up by all and taken again
  CallStack& stack() { return fibers[fiber]; }
  const CallStack& stack() const { return fibers[fiber]; }
};

struct Process {
  int32_t tgid = 0;
  int32_t threads = 0;  // not counting a leader that has exited
  uint32_t serial = 0;  // never used again, unlike a tgid
  Task* first = nullptr;
  std::shared_ptr<const SimAddressSpace> space;  // null: kernel threads
};

// A task's perf events; made when it gets its first.
struct TaskEvents {
  absl::flat_hash_map<int32_t, std::vector<Event*>> by_cpu;  // -1: any CPU
  size_t count = 0;
  uint64_t ran_ns = 0;         // while it had events
  uint64_t running_since = 0;  // when it was switched in; 0: it does not run
};

enum class TaskState : uint8_t { kSleeping, kQueued, kRunning, kZombie };

struct Task {
  int32_t tid = 0;
  int32_t parent_tgid = 0;
  uint64_t born = 0;  // ns
  uint64_t wake_at = 0;
  Process* process = nullptr;
  Task* next = nullptr;  // of the process
  Task* previous = nullptr;
  std::unique_ptr<Execution> execution;
  std::unique_ptr<TaskEvents> events;
  int16_t cpu = 0;      // where it runs, waits or last ran
  int16_t pinned = -1;  // the only CPU it may run on; -1: any
  uint16_t behaviour = 0;
  uint32_t serial = 0;  // never used again, unlike a tid
  TaskState state = TaskState::kSleeping;
  bool started_by_process = false;  // its stack begins at the process's start, not a thread's
  char comm[16] = {};

  int32_t tgid() const { return process->tgid; }
  bool leader() const { return tid == process->tgid; }
  bool kernel_thread() const { return process->space == nullptr; }
  void SetComm(const std::string& name) {
    std::memset(comm, 0, sizeof(comm));
    std::memcpy(comm, name.data(), std::min(name.size(), sizeof(comm) - 1));
  }
};

// What an idle single-threaded process costs, apart from what the allocator and the index of tids
// (8 bytes a tid) add.
inline constexpr size_t kIdleTaskBytes = sizeof(Task) + sizeof(Process);
static_assert(kIdleTaskBytes <= 176);

}  // namespace lbrd::sim
