#include "daemon/capabilities.h"

#include <sys/utsname.h>

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/kernel_names.h"
#include "daemon/session_source.h"
#include "pmu/cpu_list.h"

namespace lbrd::daemon {
namespace {

v1::ProbeVerdict ProtoVerdict(pmu::ProbeVerdict verdict) {
  switch (verdict) {
    case pmu::ProbeVerdict::kOk:
      return v1::PROBE_VERDICT_OK;
    case pmu::ProbeVerdict::kDegraded:
      return v1::PROBE_VERDICT_DEGRADED;
    case pmu::ProbeVerdict::kMissing:
      return v1::PROBE_VERDICT_MISSING;
    case pmu::ProbeVerdict::kNotTried:
      return v1::PROBE_VERDICT_NOT_TRIED;
  }
  return v1::PROBE_VERDICT_UNSPECIFIED;
}

std::optional<int32_t> ReadNumber(pmu::Kernel& kernel, const char* path) {
  const absl::StatusOr<std::string> text = kernel.ReadFile(path, 64);
  int32_t value = 0;
  if (!text.ok() || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &value)) {
    return std::nullopt;
  }
  return value;
}

pmu::Probe ProbeKernelSymbols(pmu::Kernel& kernel, const std::string& missing) {
  pmu::Probe probe{.name = "kernel-symbols"};
  const std::optional<int32_t> restricted = ReadNumber(kernel, "/proc/sys/kernel/kptr_restrict");
  const std::string level = restricted.has_value() ? absl::StrCat(*restricted) : "not known";
  if (missing.empty()) {
    probe.value = "names for kernel frames";
    probe.why =
        absl::StrCat("/proc/kallsyms shows addresses; kernel.kptr_restrict is ", level, ".");
    return probe;
  }
  probe.verdict = pmu::ProbeVerdict::kDegraded;
  probe.value = "kernel frames have no names";
  probe.why = absl::StrCat(missing, " (kernel.kptr_restrict is ", level, ")");
  probe.action = "give lbrd CAP_SYSLOG, and: sysctl kernel.kptr_restrict=1";
  return probe;
}

// What is said of a source once sessions are known to get it.
std::string Praise(pmu::StackSource source) {
  switch (source) {
    case pmu::StackSource::kLbr:
      return "";
    case pmu::StackSource::kKernelDeferred:
      return "The kernel walks frame pointers on the way back to user mode: whole for programs "
             "built "
             "with them, cut for others (--stack dwarf reads those).";
    case pmu::StackSource::kDwarf:
      return absl::StrCat("The top ", pmu::kDefaultStackCopyBytes >> 10,
                          " KiB of a thread's stack are copied with each sample and unwound: whole "
                          "where the stack fits (--stack-bytes) and programs have unwind tables.");
    case pmu::StackSource::kFramePointer:
      return "Whole for programs built with frame pointers, cut or wrong for others.";
  }
  return "";
}

std::string DescribeLbr(const pmu::MachineProbes& found) {
  const std::string from = absl::StrCat(
      "from the hardware's LBR",
      found.lbr_depth != 0 ? absl::StrCat(", up to ", found.lbr_depth, " calls deep") : "");
  if (!found.lbr_survival.has_value() || !found.lbr_survival->conclusive()) {
    return absl::StrCat("Sessions get user stacks ", from,
                        ". Whether LBR survives context switches here, which the stacks of "
                        "whole-machine sessions depend on, is not known.");
  }
  if (found.lbr_survival->survives()) {
    return absl::StrCat(
        "All sessions, of the whole machine as of single processes, get user stacks ", from,
        ": this kernel keeps each thread's LBR across context switches, as the "
        "experiment showed.");
  }
  return absl::StrCat(
      "Sessions of a process get user stacks ", from,
      ". Sessions of the whole machine get them too, but cut to the calls made since the thread "
      "was "
      "last switched in: this kernel clears LBR at each context switch, as the experiment showed. "
      "For whole stacks of the whole machine use --stack dwarf, or Linux 6.15 or newer.");
}

}  // namespace

std::string DescribeStacks(const pmu::MachineProbes& found) {
  for (const pmu::Probe& probe : found.probes) {
    if (probe.essential && probe.verdict == pmu::ProbeVerdict::kMissing) {
      return absl::StrCat("No session can be started: ", probe.why, ".");
    }
  }
  const pmu::ChosenEvent& chosen = *found.chosen;
  if (chosen.source == pmu::StackSource::kLbr) return DescribeLbr(found);
  std::string text =
      absl::StrCat("Sessions get user stacks from ", pmu::StackSourceName(chosen.source), ". ",
                   Praise(chosen.source), " Not from");
  for (size_t i = 0; i < chosen.refusals.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? " " : "; nor from ",
                    pmu::StackSourceName(chosen.refusals[i].source), ": ", chosen.refusals[i].why);
  }
  return absl::StrCat(text, ".");
}

void MachineCapabilities::Describe(bool run_experiments, v1::Capabilities* out) {
  out->set_version(LBRD_VERSION);
  utsname system{};
  uname(&system);
  out->set_kernel_release(system.release);
  out->set_architecture(system.machine);
  const absl::StatusOr<std::string> online =
      kernel_.ReadFile("/sys/devices/system/cpu/online", 65536);
  if (online.ok()) {
    const absl::StatusOr<std::vector<int32_t>> cpus = pmu::ParseCpuList(*online);
    if (cpus.ok()) out->set_cpus_online(static_cast<uint32_t>(cpus->size()));
  }
  out->set_perf_event_paranoid(
      ReadNumber(kernel_, "/proc/sys/kernel/perf_event_paranoid").value_or(0));

  pmu::MachineProbes found;
  if (run_experiments) {
    absl::MutexLock lock(&experiment_);
    found = pmu::ProbeMachine(kernel_, start_child_);
  } else {
    found = pmu::ProbeMachine(kernel_, nullptr);
  }
  if (found.chosen.ok()) {
    out->set_default_event(found.chosen->code.name);
    out->set_best_stack_mode(ProtoMode(found.chosen->source));
    for (const pmu::Refusal& refusal : found.chosen->refusals) {
      v1::Refusal* to = out->add_refusals();
      to->set_mode(ProtoMode(refusal.source));
      to->set_why(refusal.why);
    }
  }
  out->set_lbr_depth(found.lbr_depth);
  out->set_kernel_symbols_missing(ReadKernelNames(kernel_).missing);
  found.probes.push_back(ProbeKernelSymbols(kernel_, out->kernel_symbols_missing()));
  for (const pmu::Probe& probe : found.probes) {
    v1::Probe* to = out->add_probes();
    to->set_name(probe.name);
    to->set_verdict(ProtoVerdict(probe.verdict));
    to->set_value(probe.value);
    to->set_why(probe.why);
    to->set_action(probe.action);
    to->set_essential(probe.essential);
  }
  out->set_stacks(DescribeStacks(found));
}

}  // namespace lbrd::daemon
