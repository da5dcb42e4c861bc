// perf_event_open(2) and what follows from it: the perf side of the simulated kernel.
//
// Events belong to a CPU or to a task; those of the CPUs are always there, those of a task are
// where it runs. On each CPU as many are counting as the hardware has room for (counters, one LBR
// filter); the others take turns each tick. Children are born with forks and folded into their
// parents at exit. An event lives while a descriptor or a mapping refers to it.
//
// Parts: perf_events.cc (life of events), perf_counting.cc (who counts, when the next sample is
// due), perf_output.cc (samples and all other records), perf_control.cc (ioctl, read, mmap, poll).
//
// Thread rules: one owner, the Machine's. Memory: about 300 bytes an event, children included.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tests/sim/breakpoint_slots.h"
#include "tests/sim/event.h"
#include "tests/sim/lbr.h"
#include "tests/sim/machine.h"
#include "tests/sim/perf_options.h"
#include "tests/sim/sample_writer.h"
#include "tests/sim/truth.h"

namespace lbrd::sim {

// What the kernel itself knows of all events ever opened.
struct PerfCounts {
  uint64_t samples_generated = 0;
  uint64_t samples_written = 0;
  uint64_t samples_lost = 0;
  uint64_t samples_without_ring = 0;  // nobody mapped one
  uint64_t others_generated = 0;      // every other record but PERF_RECORD_LOST
  uint64_t others_written = 0;
  uint64_t others_lost = 0;
  uint64_t cookies = 0;  // deferred chains asked for
  uint64_t answers = 0;  // and answered
  uint64_t throttled = 0;
};

class PerfEvents : public MachineObserver {
 public:
  PerfEvents(Machine* machine, const PerfOptions& options);
  ~PerfEvents() override;

  // 0 and *out with one reference, or an errno. `pid`, `cpu`: as of perf_event_open(2).
  int Open(const perf_event_attr& attr, int32_t pid, int32_t cpu, Event** out);
  void AddReference(Event* event) { ++event->references; }
  void DropReference(Event* event);

  // ioctl: 0 or an errno. `output`: the event that PERF_EVENT_IOC_SET_OUTPUT names, or null.
  int Control(Event* event, unsigned long request, uint64_t argument, Event* output);
  // read(2): bytes or -errno.
  int64_t Read(Event* event, std::span<uint64_t> out);
  // mmap(2): the mapping or null and an errno. It holds a reference.
  void* Map(Event* event, uint64_t data_bytes, int* error);
  bool Unmap(void* memory, uint64_t data_bytes);
  // poll(2)'s events; POLLIN is given once per wake-up.
  int16_t Poll(Event* event);

  const PerfCounts& counts() const { return counts_; }
  const PerfOptions& options() const { return options_; }
  size_t open_events() const { return roots_.size(); }
  size_t mapped_rings() const { return maps_.size(); }
  uint64_t locked_bytes() const { return locked_bytes_; }
  const BreakpointSlots& breakpoints() const { return breakpoints_; }
  // Grows whenever a poller may find something new.
  uint64_t wakeups() const { return wakeups_; }
  // Called for every sample generated. The truth is the callee's to keep.
  void set_truth_sink(std::function<void(std::shared_ptr<const Truth>)> sink) {
    truth_sink_ = std::move(sink);
  }

  uint64_t NextDue(int32_t cpu) override;
  bool Due(int32_t cpu) override;
  void BeforeMode(int32_t cpu) override;
  void SwitchOut(int32_t cpu, Task* task, bool preempted) override;
  void SwitchIn(int32_t cpu, Task* task) override;
  void Migrated(Task* task) override;
  void ReturnToUser(int32_t cpu, Task* task) override;
  void PageFault(int32_t cpu, Task* task) override;
  void Call(int32_t cpu, uint64_t from, uint64_t to) override;
  void Return(int32_t cpu, uint64_t from, uint64_t to) override;
  void Enter(int32_t cpu, Task* task, uint64_t entry) override;
  void Touch(int32_t cpu, Task* task, uint64_t address, bool write) override;
  void Forked(int32_t cpu, Task* parent, Task* child) override;
  void Exiting(int32_t cpu, Task* task) override;
  void ProcessGone(int32_t tgid) override;
  void Executing(int32_t cpu, Task* task) override;
  void Named(int32_t cpu, Task* task, bool exec) override;
  void Mapped(int32_t cpu, Task* task, const SimMapping& mapping) override;
  void CpuOffline(int32_t cpu) override;
  void CpuOnline(int32_t cpu) override;

 private:
  struct CpuPerf {
    Task* current = nullptr;      // from SwitchIn() to SwitchOut()
    std::vector<Event*> events;   // the CPU's own
    std::vector<Event*> active;   // counting now
    std::vector<Event*> waiting;  // on, but short of a counter or of the LBR
    uint64_t synced = 0;          // up to when `active` has counted
    uint64_t next_due = kNever;
    bool next_due_known = false;
    uint64_t next_tick = kNever;
    uint64_t turn = 0;  // whose turn is first
    bool has_task_events = false;
    bool has_breakpoints = false;
    Lbr lbr;
    bool lbr_on = false;
    bool lbr_call_stack = false;
    bool lbr_user = false;     // the filter lets user branches in
    bool lbr_of_task = false;  // a task's own event uses it
    bool lbr_restore_pending = false;
    uint32_t deferred_count = 0;  // of cookies given
  };

  CpuPerf& On(int32_t cpu) { return cpus_[static_cast<size_t>(cpu)]; }

  // Life.
  void Attach(Event* event);
  void Detach(Event* event);
  void Destroy(Event* event);
  // The event's task is gone, or has no more use for it: dead, or folded into its parent.
  void EndInTask(Event* event);
  void Inherit(Event* parent, Task* child);
  TaskEvents& EventsOf(Task* task);

  // Counting.
  void Sync(int32_t cpu);
  void SyncEvent(const Event* event);
  void Reschedule(int32_t cpu);
  void SetLbrUse(CpuPerf* c);
  void RestoreLbr(CpuPerf* c, Task* task);
  void NeedTick(CpuPerf* c);
  uint64_t ContextTime(const Event* event) const;
  void TurnOn(Event* event);
  void TurnOff(Event* event, EventState state);
  void RescheduleFor(const Event* event);
  void Happen(int32_t cpu, Task* task, EventKind kind, uint64_t address, uint32_t bp_access);
  bool Overflow(int32_t cpu, Event* event, uint64_t address);
  void Tick(int32_t cpu);
  void TotalCounts(const Event& event, uint64_t* count, uint64_t* enabled, uint64_t* running) const;
  void PutCounts(const Event& event, std::vector<uint64_t>* out) const;

  // Output.
  void WriteSample(int32_t cpu, Event* event, uint64_t address);
  void FillTruth(int32_t cpu, Event* event, Truth* truth);
  void FillBranches(const CpuPerf& c, const EventConfig& config, Truth* truth);
  void FillUser(const Task& task, Truth* truth) const;
  uint64_t RequestDeferred(int32_t cpu, Task* task);
  void AnswerDeferred(int32_t cpu, Task* task);
  void WriteThrottle(int32_t cpu, Event* event, bool throttled);
  RecordWho WhoOf(int32_t cpu, const Task* task, const Event& event) const;
  // Calls `write` for each event that hears of what `task` does on `cpu`; `task_only`: only its
  // own.
  void ForListeners(int32_t cpu, Task* task, bool task_only,
                    const std::function<void(Event*)>& write);
  bool Emit(Event* event, std::span<const uint64_t> record, const RecordWho& who, bool sample);

  Machine* const machine_;
  const PerfOptions options_;
  std::vector<CpuPerf> cpus_;
  absl::flat_hash_map<Event*, std::unique_ptr<Event>> roots_;
  struct Mapping {
    std::shared_ptr<RingWriter> ring;
    Event* event;
    uint32_t count;
  };
  absl::flat_hash_map<void*, Mapping> maps_;
  BreakpointSlots breakpoints_;
  uint64_t next_id_;
  uint64_t lbr_events_ = 0;
  uint64_t lbr_epoch_ = 0;
  uint64_t locked_bytes_ = 0;
  uint64_t wakeups_ = 0;
  const Task* migrated_ = nullptr;
  PerfCounts counts_;
  std::function<void(std::shared_ptr<const Truth>)> truth_sink_;
  // Reused for every record.
  std::vector<uint64_t> record_;
  std::vector<uint64_t> trailer_;
  std::vector<uint64_t> chain_;
  std::vector<pmu::Branch> branches_;
  std::vector<uint64_t> read_values_;
};

}  // namespace lbrd::sim
