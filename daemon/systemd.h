// What systemd gives the daemon, and what the daemon tells systemd: sd_listen_fds(3), sd_notify(3).
// Without systemd nothing is given, and telling does nothing.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lbrd::daemon {

// Listening sockets that systemd opened and keeps: they are served, never removed. -1: not given.
struct GivenSockets {
  int requests = -1;     // a UNIX socket
  int descriptors = -1;  // a UNIX socket whose path ends in ".fd"
  int metrics = -1;      // any stream socket that is named "metrics" (FileDescriptorName=)
  int tls = -1;          // any stream socket that is named "tls"

  bool any() const { return requests >= 0 || descriptors >= 0 || metrics >= 0 || tls >= 0; }
};

// Once. kInvalidArgument: one that is of no use here, or two for one use.
absl::StatusOr<GivenSockets> TakeGivenSockets();

// A message of sd_notify(3): "READY=1\nSTATUS=…". Of systemd's main process: the broker.
void NotifySystemd(absl::string_view message);
// How often systemd wants to hear that all is well (WatchdogSec=); InfiniteDuration: never.
absl::Duration WatchdogInterval();

}  // namespace lbrd::daemon
