// PerfEvents: how events begin, follow their tasks, and end.
#include "tests/sim/perf_events.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tests/sim/event_check.h"

namespace lbrd::sim {
namespace {

// "SIM" in ASCII, above a running number: no real kernel gives such IDs.
constexpr uint64_t kFirstEventId = uint64_t{0x53494d} << 40;

void EraseOne(std::vector<Event*>* events, Event* event) {
  const auto at = std::find(events->begin(), events->end(), event);
  if (at != events->end()) events->erase(at);
}

std::vector<Event*> AllOf(const TaskEvents& events) {
  std::vector<Event*> all;
  for (const auto& [cpu, here] : events.by_cpu) all.insert(all.end(), here.begin(), here.end());
  // The map's order is not the same in every run.
  std::sort(all.begin(), all.end(), [](const Event* a, const Event* b) { return a->id < b->id; });
  return all;
}

}  // namespace

PerfEvents::PerfEvents(Machine* machine, const PerfOptions& options)
    : machine_(machine),
      options_(options),
      cpus_(static_cast<size_t>(machine->cpus())),
      breakpoints_(machine->cpus(), options.breakpoint_slots),
      next_id_(kFirstEventId) {
  for (CpuPerf& c : cpus_) {
    c.lbr = Lbr(std::clamp<uint32_t>(options.lbr_depth, 1, kMaxLbrDepth));
    c.synced = machine->now();
  }
}

PerfEvents::~PerfEvents() = default;

TaskEvents& PerfEvents::EventsOf(Task* task) {
  if (task->events == nullptr) {
    task->events = std::make_unique<TaskEvents>();
    if (On(task->cpu).current == task) task->events->running_since = machine_->now();
  }
  return *task->events;
}

int PerfEvents::Open(const perf_event_attr& attr, int32_t pid, int32_t cpu, Event** out) {
  auto config = std::make_shared<EventConfig>();
  const bool of_task = pid >= 0;
  if (const int error = CheckAttr(attr, options_, of_task, config.get()); error != 0) return error;
  if (!of_task && cpu < 0) return EINVAL;
  if (cpu < -1 || cpu >= machine_->cpus()) return EINVAL;
  Task* task = nullptr;
  if (of_task) {
    task = pid == 0 ? machine_->self() : machine_->tasks().Find(pid);
    if (task == nullptr || task->state == TaskState::kZombie) return ESRCH;
    if (!options_.privileged && task->process != machine_->self()->process) return EACCES;
  } else if (!options_.privileged && options_.paranoid > 0) {
    return EACCES;
  }
  const uint64_t slot_owner = task != nullptr ? task->serial : 0;
  const bool breakpoint = config->kind == EventKind::kBreakpoint;
  if (breakpoint && !breakpoints_.Reserve(slot_owner, cpu)) return ENOSPC;
  if (cpu >= 0 && !machine_->online(cpu)) {
    if (breakpoint) breakpoints_.Release(slot_owner, cpu);
    return ENODEV;
  }

  auto owned = std::make_unique<Event>();
  Event* event = owned.get();
  event->id = ++next_id_;
  event->config = std::move(config);
  event->cpu = cpu;
  event->task = task;
  event->of_task = of_task;
  event->slot_owner = slot_owner;
  event->period = event->config->period;
  event->left = static_cast<int64_t>(event->period);
  event->enable_on_exec = attr.enable_on_exec;
  event->references = 1;
  roots_.emplace(event, std::move(owned));
  if (event->config->lbr && lbr_events_++ == 0) ++lbr_epoch_;
  Attach(event);
  if (!attr.disabled) TurnOn(event);
  *out = event;
  return 0;
}

void PerfEvents::Attach(Event* event) {
  event->attached = true;
  if (event->of_task) {
    TaskEvents& events = EventsOf(event->task);
    events.by_cpu[event->cpu].push_back(event);
    ++events.count;
  } else {
    On(event->cpu).events.push_back(event);
  }
}

void PerfEvents::Detach(Event* event) {
  if (!event->attached) return;
  event->attached = false;
  if (!event->of_task) {
    EraseOne(&On(event->cpu).events, event);
    return;
  }
  TaskEvents& events = *event->task->events;
  const auto here = events.by_cpu.find(event->cpu);
  EraseOne(&here->second, event);
  if (here->second.empty()) events.by_cpu.erase(here);
  if (--events.count == 0) event->task->events.reset();
  event->task = nullptr;
}

void PerfEvents::DropReference(Event* event) {
  if (--event->references != 0) return;
  while (!event->children.empty()) EndInTask(event->children.back().get());
  Destroy(event);
}

// Takes the event out of everything and frees it.
void PerfEvents::Destroy(Event* event) {
  if (event->on()) TurnOff(event, EventState::kExit);
  Detach(event);
  if (event->config->kind == EventKind::kBreakpoint) {
    breakpoints_.Release(event->slot_owner, event->cpu);
  }
  if (event->config->lbr) --lbr_events_;
  Event* parent = event->parent;
  if (parent == nullptr) {
    roots_.erase(event);
    return;
  }
  const size_t index = event->index;
  std::swap(parent->children[index], parent->children.back());
  parent->children[index]->index = index;
  parent->children.pop_back();
}

void PerfEvents::EndInTask(Event* event) {
  ++wakeups_;  // a hang-up, or new counts
  if (event->on()) TurnOff(event, EventState::kExit);
  event->state = EventState::kExit;
  if (event->parent == nullptr) {
    Detach(event);
    return;
  }
  event->parent->child_count += event->count;
  event->parent->child_enabled_ns += event->enabled_ns;
  event->parent->child_running_ns += event->running_ns;
  Destroy(event);
}

void PerfEvents::Inherit(Event* parent, Task* child) {
  auto owned = std::make_unique<Event>();
  Event* event = owned.get();
  Event* root = parent->root();
  event->id = ++next_id_;
  event->config = parent->config;
  event->cpu = parent->cpu;
  event->task = child;
  event->of_task = true;
  event->slot_owner = child->serial;
  if (event->config->kind == EventKind::kBreakpoint &&
      !breakpoints_.Reserve(event->slot_owner, event->cpu)) {
    return;
  }
  event->parent = root;
  event->index = root->children.size();
  event->period = root->period;
  event->left = static_cast<int64_t>(event->period);
  event->enable_on_exec = parent->enable_on_exec;
  root->children.push_back(std::move(owned));
  if (event->config->lbr) ++lbr_events_;
  Attach(event);
  if (parent->on()) TurnOn(event);
}

void PerfEvents::Forked(int32_t cpu, Task* parent, Task* child) {
  if (parent->events != nullptr) {
    for (Event* event : AllOf(*parent->events)) {
      if (!event->config->attr.inherit) continue;
      if (event->config->attr.inherit_thread && child->process != parent->process) continue;
      Inherit(event, child);
    }
  }
  const uint64_t fields[] = {
      TwoWords(static_cast<uint32_t>(child->tgid()), static_cast<uint32_t>(parent->tgid())),
      TwoWords(static_cast<uint32_t>(child->tid), static_cast<uint32_t>(parent->tid)),
      machine_->now()};
  ForListeners(cpu, parent, /*task_only=*/false, [&](Event* event) {
    if (!event->config->tells_tasks()) return;
    const RecordWho who = WhoOf(cpu, parent, *event);
    BuildTrailer(event->config->attr, who, &trailer_);
    BuildRecord(PERF_RECORD_FORK, 0, fields, nullptr, trailer_, &record_);
    Emit(event, record_, who, /*sample=*/false);
  });
}

void PerfEvents::Exiting(int32_t cpu, Task* task) {
  const auto parent = static_cast<uint32_t>(ParentOf(machine_->tasks(), *task));
  const uint64_t fields[] = {TwoWords(static_cast<uint32_t>(task->tgid()), parent),
                             TwoWords(static_cast<uint32_t>(task->tid), parent), machine_->now()};
  const auto tell = [&](Event* event) {
    if (!event->config->tells_tasks()) return;
    const RecordWho who = WhoOf(cpu, task, *event);
    BuildTrailer(event->config->attr, who, &trailer_);
    BuildRecord(PERF_RECORD_EXIT, 0, fields, nullptr, trailer_, &record_);
    Emit(event, record_, who, /*sample=*/false);
  };
  if (task->events != nullptr) {
    Sync(cpu);
    ForListeners(cpu, task, /*task_only=*/true, tell);
    for (Event* event : AllOf(*task->events)) EndInTask(event);
  }
  ForListeners(cpu, task, /*task_only=*/false, tell);
}

void PerfEvents::ProcessGone(int32_t) { ++wakeups_; }

void PerfEvents::Executing(int32_t, Task* task) {
  if (task->events == nullptr) return;
  for (Event* event : AllOf(*task->events)) {
    if (event->config->attr.remove_on_exec) {
      EndInTask(event);
    } else if (std::exchange(event->enable_on_exec, false) && !event->on()) {
      TurnOn(event);
    }
  }
}

void PerfEvents::CpuOffline(int32_t cpu) {
  CpuPerf& c = On(cpu);
  Sync(cpu);
  // Off for good, but not dead: they can be read, and their rings too.
  const std::vector<Event*> events = c.events;
  for (Event* event : events) {
    if (event->on()) TurnOff(event, EventState::kOff);
    Detach(event);
  }
  c.next_tick = c.next_due = kNever;
  ++wakeups_;
}

void PerfEvents::CpuOnline(int32_t cpu) { On(cpu).synced = machine_->now(); }

}  // namespace lbrd::sim
