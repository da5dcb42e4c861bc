// What a session takes of scarce hardware, asked of pmu/admission before its events are opened.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pmu/admission.h"
#include "pmu/event_target.h"
#include "pmu/kernel.h"
#include "pmu/stack_source.h"

namespace lbrd::daemon {

// Who asks, and what its events count.
struct SessionClaim {
  std::string session;  // its name: what refusals of others will say
  pmu::EventTarget target;
  bool allow_multiplex = false;
};

using Grants = std::vector<pmu::Admission::Grant>;

// What an event needs to be open on each of its CPUs or threads: a breakpoint, a general counter,
// the LBR with its filter, or nothing (software events).
std::vector<pmu::AdmissionRequest> ScarceNeeds(const pmu::EventCode& code,
                                               const perf_event_attr& attr);

// All that the event needs wherever the claim goes, or nothing: kResourceExhausted names who is in
// the way. A process is admitted with the threads that it has now; what they start later has events
// as its parent has, and no more, so it fits where the parent did.
// Keep the grants until the events are closed.
absl::StatusOr<Grants> AdmitEvent(pmu::Kernel& kernel, pmu::Admission& admission,
                                  const SessionClaim& claim, const pmu::EventCode& code,
                                  const perf_event_attr& attr);

// Whether and how the request's event can be opened (pmu::ChooseEvent), and what it then needs.
// The kernel is asked by opening it on the calling thread; where that takes a breakpoint, it is
// admitted too, so that nobody else is refused by the kernel for it.
struct AdmittedEvent {
  pmu::ChosenEvent event;
  Grants grants;
};
absl::StatusOr<AdmittedEvent> ChooseAndAdmit(pmu::Kernel& kernel, pmu::Admission& admission,
                                             const SessionClaim& claim,
                                             const pmu::EventRequest& request);

// One line for each of the grants that take turns with others; the same ones once.
std::vector<std::string> TimeSharingNotes(const Grants& grants);

}  // namespace lbrd::daemon
