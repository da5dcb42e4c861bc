// PerfEvents: which events count where, and when their next samples are due.
#include <linux/hw_breakpoint.h>

#include <algorithm>
#include <utility>

#include "tests/sim/perf_events.h"

namespace lbrd::sim {
namespace {

bool TicksIn(const EventConfig& config, Mode mode) {
  if (config.rate == 0) return false;
  // A clock goes on in every mode; what its timer then finds is excluded may give no sample.
  if (config.kind == EventKind::kClock) return true;
  return mode != Mode::kIdle && !config.Excludes(mode);
}

}  // namespace

void PerfEvents::Sync(int32_t cpu) {
  CpuPerf& c = On(cpu);
  const uint64_t now = machine_->now();
  const uint64_t elapsed = now - c.synced;
  c.synced = now;
  if (elapsed == 0 || c.active.empty()) return;
  const Mode mode = machine_->mode(cpu);
  for (Event* event : c.active) {
    event->running_ns += elapsed;
    if (event->throttled || !TicksIn(*event->config, mode)) continue;
    const uint64_t units = elapsed * event->config->rate;
    event->count += units;
    event->left -= static_cast<int64_t>(units);
  }
}

void PerfEvents::SyncEvent(const Event* event) {
  if (event->active_cpu >= 0) Sync(event->active_cpu);
}

uint64_t PerfEvents::ContextTime(const Event* event) const {
  if (!event->attached) return event->enabled_since;
  if (!event->of_task) return machine_->now();
  const TaskEvents& events = *event->task->events;
  return events.ran_ns + (events.running_since != 0 ? machine_->now() - events.running_since : 0);
}

void PerfEvents::TurnOn(Event* event) {
  if (!event->attached) return;
  event->state = EventState::kInactive;
  event->enabled_since = ContextTime(event);
  RescheduleFor(event);
}

void PerfEvents::TurnOff(Event* event, EventState state) {
  SyncEvent(event);
  event->enabled_ns += ContextTime(event) - event->enabled_since;
  event->state = state;
  RescheduleFor(event);
}

void PerfEvents::RescheduleFor(const Event* event) {
  if (!event->of_task) return Reschedule(event->cpu);
  const Task* task = event->task;
  if (task == nullptr || On(task->cpu).current != task) return;
  if (event->cpu < 0 || event->cpu == task->cpu) Reschedule(task->cpu);
}

void PerfEvents::Reschedule(int32_t cpu) {
  Sync(cpu);
  CpuPerf& c = On(cpu);
  c.next_due_known = false;
  for (Event* event : c.active) {
    event->active_cpu = -1;
    if (event->state == EventState::kActive) event->state = EventState::kInactive;
  }
  c.active.clear();
  c.waiting.clear();
  c.has_task_events = c.has_breakpoints = false;

  std::vector<Event*> pinned;
  std::vector<Event*> flexible;
  const auto offer = [&](const std::vector<Event*>& events) {
    for (Event* event : events) {
      if (event->on()) (event->config->attr.pinned ? pinned : flexible).push_back(event);
    }
  };
  offer(c.events);
  if (c.current != nullptr && c.current->events != nullptr) {
    const TaskEvents& events = *c.current->events;
    for (const int32_t where : {cpu, -1}) {
      const auto here = events.by_cpu.find(where);
      if (here != events.by_cpu.end()) offer(here->second);
    }
    c.has_task_events = true;
  }
  if (!flexible.empty()) {
    std::rotate(flexible.begin(),
                flexible.begin() + static_cast<ptrdiff_t>(c.turn % flexible.size()),
                flexible.end());
  }
  uint32_t counters = 0;
  const Event* lbr_user = nullptr;
  for (const auto* events : {&pinned, &flexible}) {
    for (Event* event : *events) {
      const EventConfig& config = *event->config;
      const bool hardware = config.kind == EventKind::kHardware;
      const bool fits =
          (!hardware || counters < options_.counters) &&
          (!config.lbr || lbr_user == nullptr || lbr_user->config->lbr_filter == config.lbr_filter);
      if (!fits) {
        // A pinned event counts always or not at all.
        if (config.attr.pinned) {
          event->enabled_ns += ContextTime(event) - event->enabled_since;
          event->state = EventState::kError;
        } else {
          c.waiting.push_back(event);
        }
        continue;
      }
      if (hardware) ++counters;
      if (config.lbr) lbr_user = event;
      if (config.kind == EventKind::kBreakpoint) c.has_breakpoints = true;
      event->state = EventState::kActive;
      event->active_cpu = cpu;
      c.active.push_back(event);
    }
  }
  SetLbrUse(&c);
  if (!c.waiting.empty()) NeedTick(&c);
  machine_->Reconsider(cpu);
}

void PerfEvents::NeedTick(CpuPerf* c) {
  if (c->next_tick != kNever) return;
  c->next_tick = (machine_->now() / options_.tick_ns + 1) * options_.tick_ns;
  c->next_due_known = false;
}

void PerfEvents::SetLbrUse(CpuPerf* c) {
  const bool was_on = c->lbr_on;
  c->lbr_on = c->lbr_of_task = false;
  for (const Event* event : c->active) {
    if (!event->config->lbr) continue;
    c->lbr_on = true;
    c->lbr_of_task |= event->of_task;
    // Another filter in its turn does not empty the LBR: what one user left, the next one finds.
    c->lbr_call_stack = event->config->lbr_call_stack;
    c->lbr_user = (event->config->lbr_filter & PERF_SAMPLE_BRANCH_USER) != 0;
  }
  if (c->lbr_on && !was_on) c->lbr.Reset();
}

uint64_t PerfEvents::NextDue(int32_t cpu) {
  CpuPerf& c = On(cpu);
  if (c.next_due_known) return c.next_due;
  c.next_due_known = true;
  c.next_due = c.next_tick;
  if (c.active.empty()) return c.next_due;
  const Mode mode = machine_->mode(cpu);
  for (const Event* event : c.active) {
    const EventConfig& config = *event->config;
    if (event->period == 0 || event->throttled || !TicksIn(config, mode)) continue;
    const uint64_t units = event->left > 0 ? static_cast<uint64_t>(event->left) : 0;
    c.next_due = std::min(c.next_due, c.synced + (units + config.rate - 1) / config.rate);
  }
  return c.next_due;
}

bool PerfEvents::Due(int32_t cpu) {
  CpuPerf& c = On(cpu);
  Sync(cpu);
  c.next_due_known = false;
  if (machine_->now() >= c.next_tick) Tick(cpu);
  bool sampled = false;
  const std::vector<Event*> active = c.active;
  for (Event* event : active) {
    if (event->period == 0 || event->config->rate == 0 || event->throttled || event->left > 0) {
      continue;
    }
    event->left += static_cast<int64_t>(event->period);
    if (event->config->Excludes(machine_->mode(cpu))) continue;
    sampled |= Overflow(cpu, event, 0);
  }
  // An interrupt out of user mode goes back there at once.
  if (c.current != nullptr && machine_->mode(cpu) == Mode::kUser) AnswerDeferred(cpu, c.current);
  return sampled;
}

bool PerfEvents::Overflow(int32_t cpu, Event* event, uint64_t address) {
  WriteSample(cpu, event, address);
  const uint64_t tick = machine_->now() / options_.tick_ns;
  if (event->tick != tick) {
    event->tick = tick;
    event->in_tick = 0;
  }
  if (++event->in_tick >= options_.max_sample_rate * options_.tick_ns / 1'000'000'000) {
    event->throttled = true;
    ++counts_.throttled;
    WriteThrottle(cpu, event, /*throttled=*/true);
    NeedTick(&On(cpu));
  }
  if (event->limit > 0 && --event->limit == 0) TurnOff(event, EventState::kOff);
  return true;
}

void PerfEvents::Tick(int32_t cpu) {
  CpuPerf& c = On(cpu);
  c.next_tick = kNever;
  for (Event* event : c.active) {
    if (!std::exchange(event->throttled, false)) continue;
    WriteThrottle(cpu, event, /*throttled=*/false);
  }
  if (c.waiting.empty()) return;
  ++c.turn;
  Reschedule(cpu);
}

void PerfEvents::BeforeMode(int32_t cpu) {
  CpuPerf& c = On(cpu);
  Sync(cpu);
  c.next_due_known = false;
}

void PerfEvents::SwitchOut(int32_t cpu, Task* task, bool) {
  CpuPerf& c = On(cpu);
  Sync(cpu);
  Happen(cpu, task, EventKind::kSwitches, 0, 0);
  if (c.lbr_on && c.lbr_call_stack && !c.lbr_restore_pending &&
      (options_.saves_lbr() || c.lbr_of_task)) {
    Execution& run = *task->execution;
    if (run.saved_lbr == nullptr) run.saved_lbr = std::make_unique<Lbr>(c.lbr.depth());
    *run.saved_lbr = c.lbr;
    run.saved_lbr_epoch = lbr_epoch_;
  }
  c.lbr_restore_pending = false;
  c.current = nullptr;
  if (task->events != nullptr && task->events->running_since != 0) {
    task->events->ran_ns += machine_->now() - std::exchange(task->events->running_since, 0);
  }
  if (c.has_task_events) Reschedule(cpu);
}

void PerfEvents::SwitchIn(int32_t cpu, Task* task) {
  CpuPerf& c = On(cpu);
  c.current = task;
  c.next_due_known = false;
  if (task->events != nullptr) {
    task->events->running_since = machine_->now();
    Reschedule(cpu);
  }
  if (std::exchange(migrated_, nullptr) == task) {
    Happen(cpu, task, EventKind::kMigrations, 0, 0);
  }
  if (!c.lbr_on) return;
  if (options_.lbr_restored_late && !task->kernel_thread()) {
    c.lbr_restore_pending = true;
  } else {
    RestoreLbr(&c, task);
  }
}

void PerfEvents::RestoreLbr(CpuPerf* c, Task* task) {
  const Execution& run = *task->execution;
  const bool kept = c->lbr_call_stack && (options_.saves_lbr() || c->lbr_of_task) &&
                    run.saved_lbr != nullptr && run.saved_lbr_epoch == lbr_epoch_;
  if (kept) {
    c->lbr = *run.saved_lbr;
  } else {
    c->lbr.Reset();
  }
}

void PerfEvents::Migrated(Task* task) { migrated_ = task; }

void PerfEvents::ReturnToUser(int32_t cpu, Task* task) {
  CpuPerf& c = On(cpu);
  if (std::exchange(c.lbr_restore_pending, false) && c.lbr_on) RestoreLbr(&c, task);
  AnswerDeferred(cpu, task);
}

void PerfEvents::PageFault(int32_t cpu, Task* task) {
  Happen(cpu, task, EventKind::kFaults, task->process->space->VariableAddress(0), 0);
}

void PerfEvents::Call(int32_t cpu, uint64_t from, uint64_t to) {
  CpuPerf& c = On(cpu);
  if (c.lbr_on && c.lbr_user) c.lbr.Call(from, to);
}

void PerfEvents::Return(int32_t cpu, uint64_t from, uint64_t to) {
  CpuPerf& c = On(cpu);
  if (c.lbr_on && c.lbr_user) c.lbr.Return(from, to, c.lbr_call_stack);
}

void PerfEvents::Enter(int32_t cpu, Task* task, uint64_t entry) {
  if (!On(cpu).has_breakpoints) return;
  Happen(cpu, task, EventKind::kBreakpoint, entry, HW_BREAKPOINT_X);
}

void PerfEvents::Touch(int32_t cpu, Task* task, uint64_t address, bool write) {
  if (!On(cpu).has_breakpoints) return;
  Happen(cpu, task, EventKind::kBreakpoint, address, write ? HW_BREAKPOINT_W : HW_BREAKPOINT_R);
}

void PerfEvents::Happen(int32_t cpu, Task* task, EventKind kind, uint64_t address,
                        uint32_t bp_access) {
  const CpuPerf& c = On(cpu);
  if (c.active.empty()) return;
  const Mode mode = machine_->mode(cpu);
  const std::vector<Event*> active = c.active;
  for (Event* event : active) {
    const EventConfig& config = *event->config;
    if (config.kind != kind || config.Excludes(mode)) continue;
    if (kind == EventKind::kBreakpoint) {
      const perf_event_attr& attr = config.attr;
      if ((attr.bp_type & bp_access) == 0 || address + sizeof(uint64_t) <= attr.bp_addr ||
          attr.bp_addr + attr.bp_len <= address) {
        continue;
      }
      if (bp_access == HW_BREAKPOINT_X && address != attr.bp_addr) continue;
    }
    ++event->count;
    if (event->period == 0 || --event->left > 0 || event->throttled) continue;
    event->left = static_cast<int64_t>(event->period);
    Overflow(cpu, event, kind == EventKind::kBreakpoint ? config.attr.bp_addr : address);
  }
  // A trap or a fault in user mode goes back there before anything else happens.
  if (mode == Mode::kUser) AnswerDeferred(cpu, task);
}

void PerfEvents::TotalCounts(const Event& event, uint64_t* count, uint64_t* enabled,
                             uint64_t* running) const {
  const auto add = [&](const Event& one) {
    *count += one.count + one.child_count;
    *enabled += one.enabled_ns + one.child_enabled_ns;
    *running += one.running_ns + one.child_running_ns;
    if (one.on()) *enabled += ContextTime(&one) - one.enabled_since;
  };
  add(event);
  for (const std::unique_ptr<Event>& child : event.children) add(*child);
}

void PerfEvents::PutCounts(const Event& event, std::vector<uint64_t>* out) const {
  uint64_t count = 0;
  uint64_t enabled = 0;
  uint64_t running = 0;
  TotalCounts(event, &count, &enabled, &running);
  const uint64_t format = event.config->attr.read_format;
  out->clear();
  // A group of one.
  if (format & PERF_FORMAT_GROUP) out->push_back(1);
  if (!(format & PERF_FORMAT_GROUP)) out->push_back(count);
  if (format & PERF_FORMAT_TOTAL_TIME_ENABLED) out->push_back(enabled);
  if (format & PERF_FORMAT_TOTAL_TIME_RUNNING) out->push_back(running);
  if (format & PERF_FORMAT_GROUP) out->push_back(count);
  if (format & PERF_FORMAT_ID) out->push_back(event.id);
  if (format & PERF_FORMAT_LOST) out->push_back(event.lost);
}

}  // namespace lbrd::sim
