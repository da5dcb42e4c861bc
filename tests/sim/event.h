// One simulated perf event, and what it was asked to be.
//
// Thread rules: owned by PerfEvents.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "pmu/abi.h"
#include "tests/sim/ring_writer.h"
#include "tests/sim/task.h"

namespace lbrd::sim {

enum class EventKind : uint8_t {
  kClock,     // cpu-clock, task-clock: ns, in every mode
  kHardware,  // so many units per ns, in the modes it does not exclude
  kSwitches,
  kMigrations,
  kFaults,
  kBreakpoint,
  kDummy,
};

// Shared by an event, its per-CPU twins that were opened with the same attr, and its children.
struct EventConfig {
  perf_event_attr attr{};
  bool defer_callchain = false;
  bool defer_output = false;
  EventKind kind = EventKind::kDummy;
  uint64_t rate = 0;    // units per ns of running; 0: counted as things happen
  uint64_t period = 0;  // units between samples; 0: it does not sample
  bool lbr = false;
  bool lbr_call_stack = false;
  uint64_t lbr_filter = 0;
  // Any record of mappings, names or tasks is wanted, so forks and exits are told.
  bool tells_tasks() const {
    return attr.comm || attr.mmap || attr.mmap2 || attr.mmap_data || attr.task;
  }
  bool Excludes(Mode mode) const {
    switch (mode) {
      case Mode::kUser:
        return attr.exclude_user;
      case Mode::kKernel:
        return attr.exclude_kernel;
      case Mode::kIdle:
        return attr.exclude_kernel || attr.exclude_idle;
    }
    return true;
  }
};

enum class EventState : int8_t { kExit = -2, kError = -1, kOff = 0, kInactive = 1, kActive = 2 };

struct Event {
  uint64_t id = 0;
  std::shared_ptr<const EventConfig> config;
  int32_t cpu = -1;
  Task* task = nullptr;  // null: a CPU's, or its task has gone
  bool of_task = false;
  uint64_t slot_owner = 0;  // breakpoints: who holds the slot
  Event* parent = nullptr;  // the event that a descriptor stands for; null: this is one
  std::vector<std::unique_ptr<Event>> children;
  size_t index = 0;  // among the parent's children

  EventState state = EventState::kOff;
  bool attached = false;  // to its CPU's or its task's events
  bool enable_on_exec = false;
  uint64_t count = 0;
  uint64_t enabled_ns = 0;
  uint64_t enabled_since = 0;  // of its context's time; while Inactive or Active
  uint64_t running_ns = 0;
  uint64_t child_count = 0;
  uint64_t child_enabled_ns = 0;
  uint64_t child_running_ns = 0;
  uint64_t lost = 0;

  uint64_t period = 0;  // PERF_EVENT_IOC_PERIOD changes it
  int64_t left = 0;     // units to the next sample
  int64_t limit = 0;    // PERF_EVENT_IOC_REFRESH: samples until it stops; 0: no limit
  int32_t active_cpu = -1;
  uint64_t tick = 0;  // in which `in_tick` samples were taken
  uint64_t in_tick = 0;
  bool throttled = false;

  uint32_t references = 0;  // descriptors and mappings
  std::shared_ptr<RingWriter> ring;
  uint32_t maps = 0;

  bool on() const { return state >= EventState::kInactive; }
  Event* root() { return parent != nullptr ? parent : this; }
};

}  // namespace lbrd::sim
