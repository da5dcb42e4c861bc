// The broker at work: starts the engine, serves its requests, passes signals on to it, and starts
// another one when it dies.
//
//   SIGTERM, SIGINT   end the engine in order (kStopPatience), then the broker
//   SIGHUP            goes to the engine, which reloads
//   SIGCHLD           the engine has ended: by itself with 0, so does the broker; before any engine
//                     was ready, the broker ends as it did; otherwise another one is started, at
//                     once or, when it lived for less than kShortLife, after a pause that doubles
//                     from kLeastPause to kMostPause
//
// Meanwhile the listening sockets stay open: who connects waits for the next engine.
//
// Thread rules: the only thread of its process, which must stay so, since it forks.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/engine_process.h"
#include "daemon/engine_start.h"
#include "daemon/ready_descriptor.h"
#include "daemon/tls_endpoint.h"

namespace lbrd::daemon {

struct BrokerSetup {
  EngineUser user;
  std::vector<std::string> arguments;            // the daemon's own
  EngineStart start;                             // of the first engine
  std::string config_path;                       // which the engine may read again; empty: none
  std::array<std::string, kTlsFiles> tls_files;  // empty: other machines are not served
  ReadyDescriptor ready;                         // told once the first engine serves
};

inline constexpr absl::Duration kStopPatience = absl::Seconds(15);
// From the end of its channel to its own.
inline constexpr absl::Duration kEndPatience = absl::Seconds(3);
inline constexpr absl::Duration kShortLife = absl::Seconds(2);
inline constexpr absl::Duration kLeastPause = absl::Milliseconds(50);
inline constexpr absl::Duration kMostPause = absl::Milliseconds(500);

// How long to wait before the next engine, after `short_lives` in a row.
absl::Duration PauseAfter(int short_lives);

// The exit code of the daemon.
int RunBroker(BrokerSetup setup);

}  // namespace lbrd::daemon
