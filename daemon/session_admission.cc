#include "daemon/session_admission.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pmu/breakpoint_name.h"
#include "pmu/proc_scan.h"

namespace lbrd::daemon {
namespace {

// What tells a thread from a later one with its tid; 0: it is gone.
uint64_t StartTime(pmu::Kernel& kernel, int32_t pid, int32_t tid) {
  return pmu::StartTicksOf(kernel, pid, tid).value_or(0);
}

std::vector<pmu::TaskId> ThreadsOf(pmu::Kernel& kernel, int32_t pid) {
  const std::string folder = absl::StrCat("/proc/", pid, "/task");
  const absl::StatusOr<std::vector<int32_t>> tids = kernel.ListNumbers(folder);
  std::vector<pmu::TaskId> threads;
  // A process that has gone is found out, and told, by whoever opens its events.
  if (!tids.ok()) return threads;
  for (const int32_t tid : *tids) {
    threads.push_back({.tid = tid, .start_time = StartTime(kernel, pid, tid)});
  }
  return threads;
}

}  // namespace

std::vector<pmu::AdmissionRequest> ScarceNeeds(const pmu::EventCode& code,
                                               const perf_event_attr& attr) {
  std::vector<pmu::AdmissionRequest> needs;
  const bool counter = code.type == PERF_TYPE_HARDWARE || code.type == PERF_TYPE_HW_CACHE ||
                       code.type == PERF_TYPE_RAW;
  if (code.breakpoint()) needs.push_back({.resource = pmu::Resource::kBreakpoints});
  if (counter) needs.push_back({.resource = pmu::Resource::kCounters});
  if ((attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0) {
    needs.push_back({.resource = pmu::Resource::kLbr, .filter = attr.branch_sample_type});
  }
  return needs;
}

absl::StatusOr<Grants> AdmitEvent(pmu::Kernel& kernel, pmu::Admission& admission,
                                  const SessionClaim& claim, const pmu::EventCode& code,
                                  const perf_event_attr& attr) {
  Grants grants;
  const std::vector<pmu::AdmissionRequest> needs = ScarceNeeds(code, attr);
  if (needs.empty()) return grants;
  std::vector<pmu::AdmissionRequest> places;
  if (claim.target.pid.has_value()) {
    for (const pmu::TaskId& thread : ThreadsOf(kernel, *claim.target.pid)) {
      places.push_back({.task = thread});
    }
  } else if (const std::optional<int32_t> tid = claim.target.tid; tid.has_value()) {
    const uint64_t start = StartTime(kernel, *tid, *tid);
    places.push_back({.task = pmu::TaskId{.tid = *tid, .start_time = start}});
  } else if (claim.target.cpus.empty()) {
    places.push_back({.cpu = pmu::kEveryCpu});
  } else {
    for (const int32_t cpu : claim.target.cpus) places.push_back({.cpu = cpu});
  }
  for (const pmu::AdmissionRequest& place : places) {
    for (pmu::AdmissionRequest request : needs) {
      request.task = place.task;
      request.cpu = place.cpu;
      request.allow_multiplex = claim.allow_multiplex;
      request.holder = claim.session;
      absl::StatusOr<pmu::Admission::Grant> grant = admission.Admit(std::move(request));
      if (!grant.ok()) return grant.status();
      grants.push_back(*std::move(grant));
    }
  }
  return grants;
}

absl::StatusOr<AdmittedEvent> ChooseAndAdmit(pmu::Kernel& kernel, pmu::Admission& admission,
                                             const SessionClaim& claim,
                                             const pmu::EventRequest& request) {
  if (pmu::IsBreakpointName(request.event)) {
    const absl::StatusOr<pmu::EventCode> code = pmu::FindEvent(request.event);
    if (!code.ok()) return code.status();
    // Whether it fits at all: the trial below takes a slot of the same kind, and would be refused
    // by the kernel without a word of who holds them.
    const absl::StatusOr<Grants> fits = AdmitEvent(kernel, admission, claim, *code, {});
    if (!fits.ok()) return fits.status();
  }
  pmu::Admission::Grant trial;
  if (pmu::IsBreakpointName(request.event)) {
    absl::StatusOr<pmu::Admission::Grant> own =
        admission.Admit({.task = pmu::TaskId{.tid = gettid()}, .holder = claim.session});
    if (!own.ok()) return own.status();
    trial = *std::move(own);
  }
  absl::StatusOr<pmu::ChosenEvent> chosen = pmu::ChooseEvent(kernel, request);
  if (!chosen.ok()) return chosen.status();
  trial.Release();
  absl::StatusOr<Grants> grants = AdmitEvent(kernel, admission, claim, chosen->code, chosen->attr);
  if (!grants.ok()) return grants.status();
  return AdmittedEvent{*std::move(chosen), *std::move(grants)};
}

std::vector<std::string> TimeSharingNotes(const Grants& grants) {
  std::vector<std::string> notes;
  for (const pmu::Admission::Grant& grant : grants) {
    if (grant.time_shared().empty()) continue;
    std::string note =
        absl::StrCat("takes turns on the hardware (--allow-multiplex): ", grant.time_shared());
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) {
      notes.push_back(std::move(note));
    }
  }
  return notes;
}

}  // namespace lbrd::daemon
