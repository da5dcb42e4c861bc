#include "daemon/session_source.h"

#include <elf.h>
#include <time.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/debuginfod.h"
#include "daemon/recording_files.h"
#include "daemon/session_admission.h"
#include "daemon/session_events.h"
#include "pmu/breakpoint_name.h"
#include "pmu/cpu_list.h"
#include "pmu/event_set.h"
#include "pmu/perf_data.h"
#include "pmu/probe.h"
#include "pmu/proc_scan.h"
#include "pmu/stack_source.h"

namespace lbrd::daemon {
namespace {

constexpr uint32_t kMaxFrequencyHz = 100'000;
constexpr uint64_t kMinProfileBytes = uint64_t{64} << 10;
constexpr size_t kMaxCommBytes = 15;

// What was really asked of the kernel, read off an attr: for recordings, whose attrs others wrote.
v1::StackMode ModeOfAttr(const perf_event_attr& attr) {
  if ((attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0 &&
      (attr.branch_sample_type & PERF_SAMPLE_BRANCH_CALL_STACK) != 0) {
    return v1::STACK_MODE_LBR;
  }
  if ((attr.sample_type & PERF_SAMPLE_STACK_USER) != 0) return v1::STACK_MODE_DWARF;
  if ((attr.sample_type & PERF_SAMPLE_CALLCHAIN) != 0) return v1::STACK_MODE_FRAME_POINTER;
  return v1::STACK_MODE_UNSPECIFIED;
}

pmu::BranchFilter FilterOf(v1::BranchFilter filter) {
  switch (filter) {
    case v1::BRANCH_FILTER_ANY:
      return pmu::BranchFilter::kAny;
    case v1::BRANCH_FILTER_ANY_CALL:
      return pmu::BranchFilter::kAnyCall;
    case v1::BRANCH_FILTER_ANY_RETURN:
      return pmu::BranchFilter::kAnyReturn;
    case v1::BRANCH_FILTER_IND_CALL:
      return pmu::BranchFilter::kIndirectCall;
    case v1::BRANCH_FILTER_IND_JUMP:
      return pmu::BranchFilter::kIndirectJump;
    case v1::BRANCH_FILTER_COND:
      return pmu::BranchFilter::kConditional;
    case v1::BRANCH_FILTER_CALL:
      return pmu::BranchFilter::kCall;
    default:
      return pmu::BranchFilter::kCallStack;
  }
}

// A branch stack that is a history of branches, not a stack.
bool HasBranchHistory(const perf_event_attr& attr) {
  return (attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0 &&
         (attr.branch_sample_type & PERF_SAMPLE_BRANCH_CALL_STACK) == 0;
}

uint16_t MachineOf(absl::string_view arch) {
  if (arch.empty() || arch == "x86_64") return EM_X86_64;
  if (arch == "aarch64" || arch == "arm64") return EM_AARCH64;
  return EM_NONE;
}

absl::StatusOr<pmu::EventTarget> EventTargetOf(const v1::Target& target) {
  pmu::EventTarget out;
  switch (target.kind_case()) {
    case v1::Target::kProcess:
      out.pid = target.process().pid();
      out.enable_on_exec = target.process().enable_on_exec();
      break;
    case v1::Target::kThread:
      out.tid = target.thread().tid();
      break;
    case v1::Target::kCgroup:
      out.cgroup = target.cgroup().path();
      break;
    case v1::Target::kUser:
      out.uid = target.user().uid();
      break;
    case v1::Target::kCpuList: {
      absl::StatusOr<std::vector<int32_t>> cpus = pmu::ParseCpuList(target.cpu_list().cpus());
      if (!cpus.ok()) return cpus.status();
      out.cpus = *std::move(cpus);
      break;
    }
    default:
      break;
  }
  return out;
}

SessionTasks::Scope ScopeOf(const pmu::EventTarget& target) {
  if (target.pid.has_value()) return SessionTasks::Scope::kProcess;
  if (target.tid.has_value()) return SessionTasks::Scope::kThread;
  return SessionTasks::Scope::kEveryTask;
}

// The threads that a session of the target has contexts of, among those found.
std::vector<RunningTask> TasksOf(const pmu::EventTarget& target, const pmu::StartClock& clock,
                                 std::vector<pmu::RunningThread> threads) {
  std::vector<RunningTask> tasks;
  for (pmu::RunningThread& thread : threads) {
    if (target.tid.has_value() && thread.tid != *target.tid) continue;
    tasks.push_back({.identity = {.tid = thread.tid,
                                  .tgid = thread.pid,
                                  .start_ns = clock.ToNs(thread.start_ticks)},
                     .comm = std::move(thread.comm)});
  }
  return tasks;
}

// Tells of the processes that run already and that the target has to do with.
absl::Status ScanTarget(pmu::Kernel& kernel, const pmu::EventTarget& target,
                        pmu::RecordWriter* known, std::vector<pmu::RunningThread>* threads) {
  if (target.pid.has_value() || target.tid.has_value()) {
    const int32_t pid =
        target.pid.has_value() ? *target.pid : pmu::GroupLeaderOf(kernel, *target.tid);
    // It may have ended already; its samples are still worth having.
    pmu::ScanProcess(kernel, pid, known, threads).IgnoreError();
    return absl::OkStatus();
  }
  return pmu::ScanAllProcesses(kernel, known, threads);
}

absl::StatusOr<SessionSource> OpenLive(pmu::Kernel& kernel, pmu::Admission& admission,
                                       const std::string& name, const v1::SessionSpec& spec,
                                       TaskTable* table, pmu::OwnershipOf ownership_of) {
  absl::StatusOr<pmu::EventTarget> asked = EventTargetOf(spec.target());
  if (!asked.ok()) return asked.status();
  asked->ownership_of = std::move(ownership_of);
  const pmu::EventTarget& target = *asked;
  const SessionClaim claim{
      .session = name, .target = target, .allow_multiplex = spec.allow_multiplex()};
  absl::StatusOr<AdmittedEvent> admitted =
      ChooseAndAdmit(kernel, admission, claim, RequestOf(spec));
  if (!admitted.ok()) return admitted.status();
  const pmu::ChosenEvent* chosen = &admitted->event;

  absl::StatusOr<std::unique_ptr<pmu::EventSet>> set =
      pmu::EventSet::Open(kernel, *chosen, target, spec.ring_bytes());
  if (!set.ok()) return set.status();

  SessionSource source;
  source.grants = std::move(admitted->grants);
  source.notes = TimeSharingNotes(source.grants);
  source.cpus = static_cast<uint32_t>((*set)->cpus());
  for (const pmu::SourceEvent& event : (*set)->events()) {
    source.events.push_back({.format = event.format,
                             .resolve = {.lbr_call_stack = chosen->source == pmu::StackSource::kLbr,
                                         .lbr_depth = pmu::LbrDepth(kernel)},
                             .branches = HasBranchHistory(event.attr),
                             .fixed_period = event.attr.freq ? 0 : event.attr.sample_period});
  }
  v1::SessionEvent described;
  described.set_name(chosen->code.name);
  described.set_stack_mode(ProtoMode(chosen->source));
  described.set_unit(chosen->code.unit);
  described.set_attr(pmu::DescribeAttr(chosen->attr));
  (chosen->attr.freq ? described.set_frequency_hz(static_cast<uint32_t>(chosen->attr.sample_freq))
                     : described.set_period(chosen->attr.sample_period));
  if (HasBranchHistory(chosen->attr)) described.set_branch_filter(spec.branch_filter());
  for (const pmu::Refusal& refusal : chosen->refusals) {
    v1::Refusal* out = described.add_refusals();
    out->set_mode(ProtoMode(refusal.source));
    out->set_why(refusal.why);
  }
  source.described.push_back(std::move(described));
  // Without the kernel's part no frame is the kernel's.
  if (!spec.user_only()) source.kernel_names = KernelNameSource(ReadKernelNames(kernel));
  pmu::EventSet* events = set->get();
  source.tasks = std::make_unique<SessionTasks>(table, ScopeOf(target));
  SessionTasks* tasks = source.tasks.get();
  source.live = events;
  source.prepare = [&kernel, events, tasks, target](pmu::RecordWriter* known) -> absl::Status {
    // Changes are recorded before the present is looked at, so that nothing falls in between.
    if (absl::Status started = events->StartSideBand(); !started.ok()) return started;
    std::vector<pmu::RunningThread> threads;
    if (absl::Status scanned = ScanTarget(kernel, target, known, &threads); !scanned.ok()) {
      return scanned;
    }
    const std::vector<RunningTask> running =
        TasksOf(target, pmu::StartClock(kernel), std::move(threads));
    return tasks->Begin(running);
  };
  source.begin = [events, prepare = source.prepare](pmu::RecordWriter* known) -> absl::Status {
    if (absl::Status prepared = prepare(known); !prepared.ok()) return prepared;
    return events->StartSampling();
  };
  source.records = *std::move(set);
  return source;
}

absl::StatusOr<SessionSource> OpenRecording(pmu::Kernel& kernel, const v1::SessionSpec& spec,
                                            TaskTable* table) {
  const std::string& path = spec.target().recording().path();
  absl::StatusOr<std::unique_ptr<pmu::PerfData>> data = pmu::PerfData::Open(path);
  if (!data.ok()) return data.status();
  const pmu::PerfDataInfo& info = (*data)->info();

  SessionSource source;
  source.cpus = info.cpus_online;
  for (const pmu::SourceEvent& event : (*data)->events()) {
    const v1::StackMode mode = ModeOfAttr(event.attr);
    source.events.push_back(
        {.format = event.format,
         .resolve = {.lbr_call_stack = mode == v1::STACK_MODE_LBR,
                     .lbr_depth = info.lbr_depth,
                     .machine = MachineOf(info.arch)},
         .branches = HasBranchHistory(event.attr),
         .fixed_period = event.attr.freq ? 0 : event.attr.sample_period,
         .monotonic = event.attr.use_clockid != 0 && event.attr.clockid == CLOCK_MONOTONIC});
    v1::SessionEvent described;
    described.set_name(event.name);
    described.set_stack_mode(mode);
    const bool clock =
        event.attr.type == PERF_TYPE_SOFTWARE && (event.attr.config == PERF_COUNT_SW_CPU_CLOCK ||
                                                  event.attr.config == PERF_COUNT_SW_TASK_CLOCK);
    described.set_unit(clock ? "ns" : event.name);
    described.set_attr(pmu::DescribeAttr(event.attr));
    described.set_side_band(event.attr.type == PERF_TYPE_SOFTWARE &&
                            event.attr.config == PERF_COUNT_SW_DUMMY);
    (event.attr.freq ? described.set_frequency_hz(static_cast<uint32_t>(event.attr.sample_freq))
                     : described.set_period(event.attr.sample_period));
    source.described.push_back(std::move(described));
  }
  // The recorded kernel's names are this one's only if it is the same kernel.
  std::string recorded;
  for (const pmu::RecordedBuildId& file : info.build_ids) {
    if (file.kernel && file.path == "[kernel.kallsyms]") recorded = file.build_id;
  }
  if (!recorded.empty() && recorded == KernelBuildId(kernel)) {
    source.kernel_names = KernelNameSource([&kernel] { return ReadKernelNames(kernel); });
  } else {
    source.kernel_names = KernelNameSource(
        KernelNames{.missing = "the recording is of another kernel than the one that runs here"});
  }
  for (const std::string& note : info.notes) source.notes.push_back(note);
  source.files = std::make_unique<RecordingFiles>(path, info.build_ids, Debuginfod::OfProcess());
  source.tasks = std::make_unique<SessionTasks>(table, SessionTasks::Scope::kRecording);
  source.begin = [tasks = source.tasks.get()](pmu::RecordWriter*) { return tasks->Begin({}); };
  source.progress = [recording = data->get()] {
    return std::make_pair(recording->bytes_read(), recording->bytes_total());
  };
  source.records = *std::move(data);
  return source;
}

}  // namespace

void AddNotes(const SessionSource& source, v1::Session* out) {
  for (const std::string& note : source.notes) out->add_notes(note);
  const KernelNames* kernel = source.kernel_names.known();
  if (kernel != nullptr && !kernel->missing.empty()) {
    out->add_notes(absl::StrCat("kernel frames have no names: ", kernel->missing));
  }
}

pmu::EventRequest RequestOf(const v1::SessionSpec& spec) {
  pmu::EventRequest request{.event = spec.event(),
                            .frequency_hz = spec.frequency_hz(),
                            .period = spec.period(),
                            .stack_copy_bytes = spec.stack_copy_bytes(),
                            .user_only = spec.user_only(),
                            .branch_filter = FilterOf(spec.branch_filter())};
  request.best_source = false;
  switch (spec.stack_mode()) {
    case v1::STACK_MODE_LBR:
      request.source = pmu::StackSource::kLbr;
      // Asked for: by default there is none beside the LBR (CheckSpec).
      request.copy_beside_lbr = spec.stack_copy_bytes() != 0;
      break;
    case v1::STACK_MODE_KERNEL_DEFERRED:
      request.source = pmu::StackSource::kKernelDeferred;
      break;
    case v1::STACK_MODE_DWARF:
      request.source = pmu::StackSource::kDwarf;
      break;
    case v1::STACK_MODE_FRAME_POINTER:
      request.source = pmu::StackSource::kFramePointer;
      break;
    default:
      request.best_source = true;
  }
  return request;
}

std::vector<int32_t> WantedCpus(const v1::SessionSpec& spec) {
  std::vector<int32_t> cpus;
  for (const std::string* list : {&spec.target().cpu_list().cpus(), &spec.filter().cpus()}) {
    const auto parsed = pmu::ParseCpuList(*list);
    if (list->empty() || !parsed.ok()) continue;
    if (cpus.empty()) {
      cpus = *parsed;
      continue;
    }
    std::vector<int32_t> both;
    std::set_intersection(cpus.begin(), cpus.end(), parsed->begin(), parsed->end(),
                          std::back_inserter(both));
    cpus = std::move(both);
  }
  return cpus;
}

v1::StackMode ProtoMode(pmu::StackSource source) {
  switch (source) {
    case pmu::StackSource::kLbr:
      return v1::STACK_MODE_LBR;
    case pmu::StackSource::kKernelDeferred:
      return v1::STACK_MODE_KERNEL_DEFERRED;
    case pmu::StackSource::kDwarf:
      return v1::STACK_MODE_DWARF;
    case pmu::StackSource::kFramePointer:
      return v1::STACK_MODE_FRAME_POINTER;
  }
  return v1::STACK_MODE_UNSPECIFIED;
}

static absl::Status CheckFilter(const v1::SessionSpec& spec) {
  const v1::SampleFilter& filter = spec.filter();
  if (filter.comm().size() > kMaxCommBytes) {
    return absl::InvalidArgumentError(absl::StrCat("filter.comm: '", filter.comm(),
                                                   "' is too long: the kernel cuts names to ",
                                                   kMaxCommBytes, " bytes"));
  }
  if (filter.cpus().empty()) return absl::OkStatus();
  if (const auto cpus = pmu::ParseCpuList(filter.cpus()); !cpus.ok() || cpus->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter.cpus: '", filter.cpus(), "' is not a list of CPUs such as 0-3,7"));
  }
  if (spec.target().has_cpu_list() && WantedCpus(spec).empty()) {
    return absl::InvalidArgumentError(
        "target.cpu_list and filter.cpus have no CPU in common: nothing would be sampled");
  }
  return absl::OkStatus();
}

// Of one event.
static absl::StatusOr<v1::SessionSpec> CheckEventSpec(v1::SessionSpec spec, bool replay) {
  switch (spec.target().kind_case()) {
    case v1::Target::kAllCpus:
      break;
    case v1::Target::kProcess:
      if (spec.target().process().pid() <= 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "target.process.pid: ", spec.target().process().pid(), " is not a process ID"));
      }
      break;
    case v1::Target::kRecording:
      if (!replay) {
        return absl::PermissionDeniedError(
            "this daemon profiles the machine and reads no recordings; use lbrctl report --input");
      }
      return spec;
    case v1::Target::kCpuList:
      if (const auto cpus = pmu::ParseCpuList(spec.target().cpu_list().cpus());
          !cpus.ok() || cpus->empty()) {
        return absl::InvalidArgumentError(absl::StrCat("target.cpu_list.cpus: '",
                                                       spec.target().cpu_list().cpus(),
                                                       "' is not a list of CPUs such as 0-3,7"));
      }
      break;
    case v1::Target::kThread:
      if (spec.target().thread().tid() <= 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "target.thread.tid: ", spec.target().thread().tid(), " is not a thread ID"));
      }
      break;
    case v1::Target::kCgroup:
      if (spec.target().cgroup().path().empty()) {
        return absl::InvalidArgumentError("target.cgroup.path: must not be empty");
      }
      break;
    case v1::Target::kUser:
      break;
    case v1::Target::KIND_NOT_SET:
      return absl::InvalidArgumentError(
          "target: say what to profile: all_cpus, process, thread, cpu_list, cgroup or user");
  }
  if (replay) {
    return absl::FailedPreconditionError("this daemon was started to read a recording only");
  }
  if (const absl::Status filter = CheckFilter(spec); !filter.ok()) return filter;
  if (spec.frequency_hz() != 0 && spec.period() != 0) {
    return absl::InvalidArgumentError("frequency_hz and period exclude each other");
  }
  if (spec.frequency_hz() > kMaxFrequencyHz) {
    return absl::InvalidArgumentError(absl::StrCat("frequency_hz: ", spec.frequency_hz(),
                                                   " is too high; at most ", kMaxFrequencyHz));
  }
  if (spec.frequency_hz() == 0 && spec.period() == 0) {
    // A breakpoint's hits are few and each one counts.
    pmu::IsBreakpointName(spec.event()) ? spec.set_period(1)
                                        : spec.set_frequency_hz(pmu::kDefaultFrequencyHz);
  }
  // Beside the LBR a copy is taken only if it is asked for.
  if (spec.stack_copy_bytes() == 0 && spec.stack_mode() != v1::STACK_MODE_LBR) {
    spec.set_stack_copy_bytes(pmu::kDefaultStackCopyBytes);
  }
  if (spec.stack_copy_bytes() > pmu::kMaxStackCopyBytes || spec.stack_copy_bytes() % 8 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("stack_copy_bytes: ", spec.stack_copy_bytes(),
                                                   " is not a multiple of 8 up to ",
                                                   pmu::kMaxStackCopyBytes));
  }
  if (spec.branch_filter() == v1::BRANCH_FILTER_UNSPECIFIED) {
    spec.set_branch_filter(v1::BRANCH_FILTER_CALL_STACK);
  }
  if (!v1::BranchFilter_IsValid(spec.branch_filter())) {
    return absl::InvalidArgumentError(
        absl::StrCat("branch_filter: ", spec.branch_filter(), " is none that this daemon knows"));
  }
  if (spec.branch_filter() != v1::BRANCH_FILTER_CALL_STACK &&
      spec.stack_mode() == v1::STACK_MODE_LBR) {
    return absl::InvalidArgumentError(
        "branch_filter: stacks are the LBR's with the filter call-stack only; leave out the stack "
        "mode lbr or the filter");
  }
  if (spec.ring_bytes() == 0) spec.set_ring_bytes(pmu::kDefaultRingBytes);
  if (spec.ring_bytes() > pmu::kMaxRingBytes) {
    return absl::InvalidArgumentError(absl::StrCat("ring_bytes: ", spec.ring_bytes(),
                                                   " is too large; at most ", pmu::kMaxRingBytes));
  }
  if (spec.profile_bytes() != 0 && spec.profile_bytes() < kMinProfileBytes) {
    return absl::InvalidArgumentError(absl::StrCat("profile_bytes: ", spec.profile_bytes(),
                                                   " is too small; at least ", kMinProfileBytes));
  }
  if (spec.has_duration() && (spec.duration().seconds() < 0 || spec.duration().nanos() < 0 ||
                              spec.duration().nanos() > 999'999'999)) {
    return absl::InvalidArgumentError("duration: must not be negative");
  }
  return spec;
}

absl::StatusOr<v1::SessionSpec> CheckSpec(v1::SessionSpec spec, bool replay) {
  if (absl::Status events = CheckEvents(spec); !events.ok()) return events;
  std::vector<v1::SessionSpec> per_event = SpecPerEvent(spec);
  for (v1::SessionSpec& one : per_event) {
    absl::StatusOr<v1::SessionSpec> checked = CheckEventSpec(one, replay);
    if (!checked.ok()) return OfEvent(spec, one, checked.status());
    one = *std::move(checked);
  }
  SetEvents(per_event, &spec);
  return spec;
}

absl::StatusOr<SessionSource> OpenSessionSource(pmu::Kernel& kernel, pmu::Admission& admission,
                                                const std::string& name,
                                                const v1::SessionSpec& spec, TaskTable* tasks,
                                                pmu::OwnershipOf ownership_of) {
  return spec.target().has_recording()
             ? OpenRecording(kernel, spec, tasks)
             : OpenLive(kernel, admission, name, spec, tasks, std::move(ownership_of));
}

}  // namespace lbrd::daemon
