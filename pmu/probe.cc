#include "pmu/probe.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pmu/cpu_list.h"
#include "pmu/event_request.h"
#include "pmu/perf_users.h"
#include "pmu/probe_limits.h"

namespace lbrd::pmu {
namespace {

// Prime, so that it does not fall into step with the child. Some 1,000 to 4,000 samples a second.
constexpr uint64_t kExperimentPeriod = 1'000'003;
constexpr uint64_t kPerfUsersLimitNs = 500'000'000;
// x86 has four; more is tried, in case a machine has them.
constexpr size_t kMostBreakpoints = 16;
constexpr size_t kUsualBreakpoints = 4;

// Opens and closes; 0 or the errno.
int TryOpen(Kernel& kernel, const perf_event_attr& attr, int32_t pid, int32_t cpu) {
  const int fd = kernel.OpenEvent(attr, pid, cpu);
  if (fd < 0) return -fd;
  kernel.Close(fd);
  return 0;
}

// Errors read "what failed; what to do".
void TakeWords(absl::string_view message, Probe* probe) {
  const size_t at = message.rfind("; ");
  probe->why = std::string(message.substr(0, at));
  if (at != absl::string_view::npos) probe->action = std::string(message.substr(at + 2));
}

std::vector<int32_t> OnlineCpus(Kernel& kernel) {
  const absl::StatusOr<std::string> text = kernel.ReadFile("/sys/devices/system/cpu/online", 65536);
  if (!text.ok()) return {};
  absl::StatusOr<std::vector<int32_t>> cpus = ParseCpuList(*text);
  return cpus.ok() ? *std::move(cpus) : std::vector<int32_t>();
}

Probe ProbePerfEvents(Kernel& kernel, const absl::StatusOr<ChosenEvent>& chosen,
                      const std::vector<int32_t>& cpus) {
  Probe probe{.name = "perf-events", .essential = true};
  if (!chosen.ok()) {
    probe.verdict = ProbeVerdict::kMissing;
    probe.value = "events of a process do not open";
    TakeWords(chosen.status().message(), &probe);
    return probe;
  }
  const int32_t cpu = cpus.empty() ? 0 : cpus[0];
  if (const int error = TryOpen(kernel, chosen->attr, -1, cpu); error != 0) {
    probe.verdict = ProbeVerdict::kMissing;
    probe.value = "events of a CPU do not open";
    TakeWords(ExplainOpenError(error, chosen->code, absl::StrCat("CPU ", cpu)).message(), &probe);
    return probe;
  }
  probe.value = "open on CPUs and on processes";
  probe.why = absl::StrCat("'", chosen->code.name, "' opened on CPU ", cpu, " of ", cpus.size(),
                           " and on lbrd itself.");
  return probe;
}

Probe ProbeDefaultEvent(const absl::StatusOr<ChosenEvent>& chosen) {
  Probe probe{.name = "default-event"};
  if (!chosen.ok()) {
    probe.verdict = ProbeVerdict::kMissing;
    probe.value = "none opens";
    TakeWords(chosen.status().message(), &probe);
    return probe;
  }
  probe.value = chosen->code.name;
  if (!chosen->code.software()) {
    probe.why = "The hardware counts it.";
    return probe;
  }
  probe.verdict = ProbeVerdict::kDegraded;
  absl::StrAppend(&probe.value, ", the kernel's timer");
  probe.why = chosen->refusals.empty() ? "'cycles' is refused" : chosen->refusals[0].why;
  probe.action = "run on the bare machine, or give the virtual machine a PMU";
  return probe;
}

struct LbrFound {
  Probe probe;
  bool taken = false;  // the kernel accepts it
  EventCode code;
};

LbrFound ProbeLbr(Kernel& kernel, uint32_t depth) {
  LbrFound found;
  found.probe.name = "lbr";
  const absl::StatusOr<EventCode> cycles = FindEvent("cycles");
  absl::StatusOr<perf_event_attr> attr =
      cycles.ok() ? TryStackSource(kernel, *cycles, {}, StackSource::kLbr)
                  : absl::StatusOr<perf_event_attr>(cycles.status());
  if (!attr.ok()) {
    found.probe.verdict = ProbeVerdict::kMissing;
    found.probe.value = "no LBR call stacks";
    found.probe.why = std::string(attr.status().message());
    found.probe.action =
        "needs an Intel CPU (Haswell or later) and, in a virtual machine, a PMU with LBR";
    return found;
  }
  found.taken = true;
  found.code = *cycles;
  found.probe.value = depth != 0 ? absl::StrCat("call stacks, ", depth, " deep")
                                 : std::string("call stacks, depth not known");
  found.probe.why = absl::StrCat("The kernel accepts: ", DescribeAttr(*attr));
  return found;
}

absl::StatusOr<LbrSurvival> RunLbrExperiment(Kernel& kernel, const EventCode& code, uint32_t depth,
                                             const StartSwitchingChild& start_child) {
  const absl::StatusOr<perf_event_attr> attr = TryStackSource(
      kernel, code, {.period = kExperimentPeriod, .user_only = true}, StackSource::kLbr);
  if (!attr.ok()) return attr.status();
  const absl::StatusOr<std::unique_ptr<SwitchingChild>> child = start_child();
  if (!child.ok()) return child.status();
  return MeasureLbrSurvival(kernel, *attr, depth, **child);
}

Probe ProbeLbrOverSwitches(Kernel& kernel, const LbrFound& lbr, uint32_t depth,
                           const StartSwitchingChild& start_child,
                           std::optional<LbrSurvival>* survival) {
  Probe probe{.name = "lbr-over-switches", .verdict = ProbeVerdict::kNotTried};
  if (!lbr.taken) {
    probe.value = "no LBR to try it on";
    return probe;
  }
  if (!start_child) {
    probe.value = "the experiment was not asked for";
    return probe;
  }
  const absl::StatusOr<LbrSurvival> measured =
      RunLbrExperiment(kernel, lbr.code, depth, start_child);
  if (!measured.ok()) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.value = "could not be found out";
    probe.why = std::string(measured.status().message());
    probe.action = "try again when the machine is less busy";
    return probe;
  }
  *survival = *measured;
  probe.why =
      absl::StrCat("A child ", SwitchingChild::kCalls, " calls deep, which sleeps often, on CPU ",
                   measured->cpu, ": the median of ", measured->samples, " windows has ",
                   measured->median_calls, " of these calls.");
  if (measured->survives()) {
    probe.verdict = ProbeVerdict::kOk;
    probe.value = "LBR survives context switches";
    return probe;
  }
  probe.verdict = ProbeVerdict::kDegraded;
  if (!measured->conclusive()) {
    probe.value = "could not be found out";
    absl::StrAppend(&probe.why,
                    " But others had LBR, or its counter, for part of the time, and that "
                    "alone can empty windows.");
    probe.action = "end the other profiler and try again: see lbr-holders";
    return probe;
  }
  probe.value = "LBR is lost at context switches";
  probe.action =
      "use Linux 6.15 or newer; until then sample processes (-p), whose LBR is kept, or the whole "
      "machine with --stack dwarf";
  return probe;
}

Probe ProbeLbrHolders(bool has_lbr, const std::optional<PerfUsers>& others_found,
                      const std::optional<LbrSurvival>& survival) {
  Probe probe{.name = "lbr-holders", .verdict = ProbeVerdict::kNotTried};
  if (!has_lbr) {
    probe.value = "no LBR to hold";
    return probe;
  }
  if (!others_found.has_value()) {
    probe.value = "the experiment was not asked for";
    return probe;
  }
  const PerfUsers& found = *others_found;
  std::vector<std::string> names;
  for (const PerfUser& user : found.users) {
    names.push_back(absl::StrCat(user.comm, " (pid ", user.pid, ")"));
  }
  const std::string others =
      names.empty() ? "No other process has a perf ring mapped"
                    : absl::StrCat("These have perf rings mapped, of what events cannot be seen: ",
                                   absl::StrJoin(names, ", "));
  probe.why = absl::StrCat(others, found.all_seen ? "." : " (not all were looked at).");
  if (survival.has_value() && survival->time_shared()) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.value = absl::StrCat("time-shared: ours counted ",
                               survival->running_ns * 100 / survival->enabled_ns, " % of its time");
    probe.action = "end the other profiler, or wait for it: stacks of both suffer";
    return probe;
  }
  probe.verdict = ProbeVerdict::kOk;
  probe.value = names.empty() ? "nobody else seen"
                              : absl::StrCat(names.size(), " others sample, LBR not shared");
  if (names.size() == 1) probe.value = absl::StrCat(names[0], ", LBR not shared");
  return probe;
}

// For what either opens or not.
Probe ProbeByOpening(const char* name, int error, const char* value, const char* without,
                     const char* action) {
  Probe probe{.name = name};
  if (error == 0) {
    probe.value = value;
    probe.why = "The kernel accepts an event that asks for it.";
    return probe;
  }
  probe.verdict = ProbeVerdict::kDegraded;
  probe.value = absl::StrCat("refused: ", strerror(error));
  probe.why = without;
  probe.action = action;
  return probe;
}

Probe ProbeSource(Kernel& kernel, const absl::StatusOr<ChosenEvent>& chosen, StackSource source,
                  const char* name, const char* value, const char* action) {
  Probe probe{.name = name};
  if (!chosen.ok()) {
    probe.verdict = ProbeVerdict::kNotTried;
    probe.value = "no event to try it with";
    return probe;
  }
  const absl::StatusOr<perf_event_attr> attr = TryStackSource(kernel, chosen->code, {}, source);
  if (attr.ok()) {
    probe.value = value;
    probe.why = absl::StrCat("The kernel accepts: ", DescribeAttr(*attr));
    return probe;
  }
  probe.verdict = ProbeVerdict::kMissing;
  probe.value = "refused";
  probe.why = std::string(attr.status().message());
  probe.action = action;
  return probe;
}

Probe ProbeBreakpoints(Kernel& kernel) {
  // Watched by nobody: the events are never enabled, but they have their slot.
  static uint64_t watched = 0;
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_BREAKPOINT;
  attr.disabled = 1;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  attr.bp_type = 2;  // HW_BREAKPOINT_W
  attr.bp_addr = reinterpret_cast<uint64_t>(&watched);
  attr.bp_len = 8;
  std::vector<int> fds;
  int error = 0;
  while (fds.size() < kMostBreakpoints && error == 0) {
    const int fd = kernel.OpenEvent(attr, /*pid=*/0, /*cpu=*/-1);
    if (fd >= 0) {
      fds.push_back(fd);
    } else {
      error = -fd;
    }
  }
  for (const int fd : fds) kernel.Close(fd);
  Probe probe{.name = "breakpoints"};
  probe.value = absl::StrCat(fds.size(), " slots free for a thread");
  probe.why = absl::StrCat(
      fds.size(), " opened on lbrd itself",
      error != 0 ? absl::StrCat(", then the kernel said: ", strerror(error)) : "", ".");
  if (fds.empty()) {
    probe.verdict = ProbeVerdict::kMissing;
    probe.value = "no slot free";
    probe.action = "end debuggers and tracers that watch addresses";
  } else if (fds.size() < kUsualBreakpoints) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.action = "others watch addresses on all CPUs; end them to have their slots";
  }
  return probe;
}

}  // namespace

uint32_t LbrDepth(Kernel& kernel) {
  for (const char* pmu : {"cpu", "cpu_core", "cpu_atom"}) {
    const absl::StatusOr<std::string> text =
        kernel.ReadFile(absl::StrCat("/sys/bus/event_source/devices/", pmu, "/caps/branches"), 64);
    uint32_t depth = 0;
    if (text.ok() && absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &depth)) return depth;
  }
  return 0;
}

MachineProbes ProbeMachine(Kernel& kernel, const StartSwitchingChild& start_child) {
  MachineProbes found;
  found.chosen = ChooseEvent(kernel, {});
  const absl::StatusOr<ChosenEvent>& chosen = found.chosen;
  const std::vector<int32_t> cpus = OnlineCpus(kernel);
  const int32_t first_cpu = cpus.empty() ? 0 : cpus[0];
  std::vector<Probe>& probes = found.probes;

  probes.push_back(ProbePerfEvents(kernel, chosen, cpus));
  const bool events_open = probes.back().verdict == ProbeVerdict::kOk;
  probes.push_back(ProbeParanoid(kernel, events_open));
  probes.push_back(ProbeDefaultEvent(chosen));

  const uint32_t depth = LbrDepth(kernel);
  const LbrFound lbr = ProbeLbr(kernel, depth);
  if (lbr.taken) found.lbr_depth = depth;
  probes.push_back(lbr.probe);
  probes.push_back(ProbeLbrOverSwitches(kernel, lbr, depth, start_child, &found.lbr_survival));
  std::optional<PerfUsers> others;
  if (lbr.taken && start_child) others = FindPerfUsers(kernel, kPerfUsersLimitNs);
  probes.push_back(ProbeLbrHolders(lbr.taken, others, found.lbr_survival));
  probes.push_back(ProbeSource(kernel, chosen, StackSource::kKernelDeferred, "kernel-deferred",
                               "user stacks by frame pointers", "use Linux 6.19 or newer"));
  probes.push_back(ProbeSource(kernel, chosen, StackSource::kDwarf, "stack-copies",
                               "user stacks by DWARF",
                               "use a kernel with CONFIG_HAVE_PERF_USER_STACK_DUMP"));
  probes.push_back(ProbeChainDepth(kernel));
  probes.push_back(ProbeByOpening(
      "build-ids", TryOpen(kernel, BuildSideBandAttr(/*build_ids=*/true, false), 0, -1),
      "in mapping records",
      "Binaries are known by path and inode only: one that is replaced while it runs may get wrong "
      "names.",
      "use Linux 5.12 or newer"));
  probes.push_back(ProbeByOpening(
      "lost-counts", TryOpen(kernel, BuildSideBandAttr(false, /*read_lost=*/true), 0, -1),
      "exact, by event", "What the kernel loses is known only when it finds room to say so.",
      "use Linux 6.0 or newer"));
  probes.push_back(ProbeRingMemory(kernel, first_cpu, cpus.size()));
  probes.push_back(ProbeBreakpoints(kernel));
  const bool has_pmu = chosen.ok() && !chosen->code.software();
  // Where somebody else samples, it is more likely they.
  const bool short_of_counters =
      found.lbr_survival.has_value() && found.lbr_survival->time_shared() && others->users.empty();
  probes.push_back(ProbeNmiWatchdog(kernel, has_pmu, short_of_counters));
  return found;
}

}  // namespace lbrd::pmu
