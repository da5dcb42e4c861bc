// The ladder of user-stack sources: lbr -> kernel-deferred -> dwarf -> fp.
//
// A request without a preference starts at the top; each rung that the kernel or the hardware
// refuses leaves a Refusal that says who refused and why, so nothing falls back in silence.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pmu/event_request.h"
#include "pmu/kernel.h"

namespace lbrd::pmu {

struct Refusal {
  StackSource source;
  std::string why;  // one line
};

// An event as it can really be opened here.
struct ChosenEvent {
  EventCode code;
  StackSource source;
  perf_event_attr attr{};
  std::vector<Refusal> refusals;  // of the rungs above `source`, top first
};

// Finds the event (the machine's best when `request.event` is empty) and the best stack source the
// kernel accepts for it, by opening and closing a disabled event on the calling CPU's own task.
// kUnimplemented: the source asked for is refused; kNotFound: no such event; otherwise what the
// kernel said, with what to do about it.
absl::StatusOr<ChosenEvent> ChooseEvent(Kernel& kernel, const EventRequest& request);

// Whether the kernel takes one source for one event: the strongest attr that it accepts, found like
// ChooseEvent's. The error's message is the reason alone, as in Refusal::why.
absl::StatusOr<perf_event_attr> TryStackSource(Kernel& kernel, const EventCode& code,
                                               const EventRequest& request, StackSource source);

// What a failed perf_event_open means, as one line with what to do. `error` is an errno value.
absl::Status ExplainOpenError(int error, const EventCode& code, absl::string_view target);

}  // namespace lbrd::pmu
