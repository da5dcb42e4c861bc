#include "daemon/session_events.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {

std::vector<v1::SessionSpec> SpecPerEvent(const v1::SessionSpec& spec) {
  std::vector<v1::SessionSpec> per_event(1, spec);
  per_event.front().clear_more_events();
  for (const v1::EventSpec& event : spec.more_events()) {
    v1::SessionSpec& one = per_event.emplace_back(per_event.front());
    one.set_event(event.event());
    one.set_frequency_hz(event.frequency_hz());
    one.set_period(event.period());
  }
  return per_event;
}

void SetEvents(const std::vector<v1::SessionSpec>& per_event, v1::SessionSpec* spec) {
  *spec = per_event.front();
  for (size_t i = 1; i < per_event.size(); ++i) {
    v1::EventSpec* event = spec->add_more_events();
    event->set_event(per_event[i].event());
    event->set_frequency_hz(per_event[i].frequency_hz());
    event->set_period(per_event[i].period());
  }
}

absl::Status CheckEvents(const v1::SessionSpec& spec) {
  if (spec.more_events().empty()) return absl::OkStatus();
  if (static_cast<size_t>(spec.more_events_size()) >= kMaxSessionEvents) {
    return absl::InvalidArgumentError(absl::StrCat("more_events: a session has at most ",
                                                   kMaxSessionEvents, " events, and this asks for ",
                                                   spec.more_events_size() + 1));
  }
  if (spec.target().has_recording()) {
    return absl::InvalidArgumentError("more_events: a recording has the events it was made with");
  }
  std::set<std::string> names;
  for (const v1::SessionSpec& one : SpecPerEvent(spec)) {
    if (one.event().empty()) {
      return absl::InvalidArgumentError("event: where there are several, each needs its name");
    }
    if (!names.insert(one.event()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("more_events: '", one.event(), "' is asked for twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status OfEvent(const v1::SessionSpec& whole, const v1::SessionSpec& one,
                     const absl::Status& status) {
  if (status.ok() || whole.more_events().empty()) return status;
  return absl::Status(status.code(), absl::StrCat(one.event(), ": ", status.message()));
}

}  // namespace lbrd::daemon
