// Points in time as people write them.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lbrd::client {

// "10m", "1h30m", "2d" (that long before `now`), "now", "14:30[:05]" (today, or yesterday where
// that is still to come), "2026-11-21[ 14:30[:05]]" (T will do for the blank), in `zone`;
// "@1763722800" (Unix time). kInvalidArgument lists them.
absl::StatusOr<absl::Time> ParseTimePoint(absl::string_view text, absl::Time now,
                                          absl::TimeZone zone);

}  // namespace lbrd::client
