// What a user is told when the daemon's engine died and another one took its place.
//
// Thread rules: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::client {

// "the daemon's engine died (signal SIGKILL); another one goes on: nothing was sampled for 312 ms,
// and what was not handed out before is lost". `to_ns` 0: it does not sample yet.
std::string EngineGapText(absl::string_view why, uint64_t from_ns, uint64_t to_ns);

}  // namespace lbrd::client
