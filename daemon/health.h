// Whether the daemon does its work: each reader and worker that has something to do goes on doing
// it. What the watchdog of systemd hears depends on it.
//
// To look is itself part of the check: it takes the locks of the session table, the sessions and
// the queues, so when one of them is never given back, it does not return, and the watchdog hears
// nothing.
//
// Thread rules: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/progress.h"

namespace lbrd::daemon {

class Health {
 public:
  // A reader comes round twice a second at least, a worker once a batch of 256 KiB; symbols of a
  // large program may take a worker seconds.
  static constexpr absl::Duration kPatience = absl::Seconds(30);

  // `now`: all threads of all sessions; those of one session told apart by name.
  // kDeadlineExceeded: one has stood still, busy, for kPatience; which and for how long.
  absl::Status Check(const std::map<std::string, std::vector<Progress>>& by_session,
                     absl::Time now);

 private:
  struct Seen {
    uint64_t steps;
    bool busy;
    absl::Time since;  // it was first seen so
  };
  std::map<std::string, Seen> seen_;  // by session and thread
};

}  // namespace lbrd::daemon
