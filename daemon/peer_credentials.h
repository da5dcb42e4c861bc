// Who is at the other end of a UNIX socket, as the kernel says.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

// Of the process that connected, when it connected. Nothing of it is the peer's own word but
// `comm`.
struct PeerCredentials {
  uid_t uid = static_cast<uid_t>(-1);  // effective
  gid_t gid = static_cast<gid_t>(-1);
  std::vector<gid_t> groups;  // supplementary
  pid_t pid = 0;              // for people: it may have ended, and its number gone to another
  std::string comm;           // for people; any bytes
};

// SO_PEERCRED and SO_PEERGROUPS of a connected socket.
absl::StatusOr<PeerCredentials> ReadPeerCredentials(int socket);

}  // namespace lbrd::daemon
