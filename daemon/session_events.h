// The events of a session, of which there may be several: one spec for each.
//
// Thread rules: pure functions.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::daemon {

// Each has rings and a pipeline, or a share in one.
inline constexpr size_t kMaxSessionEvents = 8;

// For each event what the whole asks for, with that event alone, in the order of their numbers.
std::vector<v1::SessionSpec> SpecPerEvent(const v1::SessionSpec& spec);

// *spec as `per_event` would have it: their events and rates.
void SetEvents(const std::vector<v1::SessionSpec>& per_event, v1::SessionSpec* spec);

// Too many, without a name, or twice the same: what is wrong.
absl::Status CheckEvents(const v1::SessionSpec& spec);

// Says which event it was, where there are several.
absl::Status OfEvent(const v1::SessionSpec& whole, const v1::SessionSpec& one,
                     const absl::Status& status);

}  // namespace lbrd::daemon
