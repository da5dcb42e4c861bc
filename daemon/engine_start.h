// What the broker tells an engine before anything else: who it is to believe is whom, and the
// sockets that it is to serve. docs/design/privileges.md
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/systemd.h"

namespace lbrd::daemon {

struct EngineStart {
  uint32_t daemon_uid = 0;     // who runs the daemon: an admin
  int64_t admin_group = -1;    // -1: there is none
  bool sockets_given = false;  // by systemd, which starts the daemon again for a client
  bool hold_rings = false;     // BrokerKernel's
  uint32_t restarts = 0;       // engines before this one
  int32_t last_end = 0;        // how the one before it ended, as waitpid(2) tells
  GivenSockets sockets;        // descriptors that are the receiver's to close
  int journal = -1;            // as these: daemon/journal_memory.h; -1: there is none
};

// At the head of the channel, before its requests. False: errno says why. The sockets stay the
// sender's.
bool SendEngineStart(int channel, const EngineStart& start);
absl::StatusOr<EngineStart> ReceiveEngineStart(int channel);

// "signal SIGSEGV", "exit code 3": what waitpid(2) tells.
std::string DescribeEnd(int wait_status);

}  // namespace lbrd::daemon
