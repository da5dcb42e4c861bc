#include "daemon/peer_credentials.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lbrd::daemon {
namespace {

// NGROUPS_MAX of Linux.
constexpr socklen_t kMaxGroups = 65536;

std::string CommOf(pid_t pid) {
  const int fd = open(absl::StrCat("/proc/", pid, "/comm").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  char text[64];
  const ssize_t bytes = read(fd, text, sizeof(text));
  close(fd);
  return bytes <= 0 ? ""
                    : std::string(absl::StripSuffix(
                          absl::string_view(text, static_cast<size_t>(bytes)), "\n"));
}

}  // namespace

absl::StatusOr<PeerCredentials> ReadPeerCredentials(int socket) {
  ucred found{};
  socklen_t bytes = sizeof(found);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &found, &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "cannot tell who has connected");
  }
  PeerCredentials peer{.uid = found.uid, .gid = found.gid, .pid = found.pid};
  // The kernel says by ERANGE how many there are.
  bytes = 0;
  while (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &bytes) != 0) {
    if (errno != ERANGE || bytes > kMaxGroups * sizeof(gid_t)) {
      return absl::ErrnoToStatus(errno, "cannot tell the groups of who has connected");
    }
    peer.groups.resize(bytes / sizeof(gid_t));
  }
  peer.groups.resize(bytes / sizeof(gid_t));
  if (peer.pid > 0) peer.comm = CommOf(peer.pid);
  return peer;
}

}  // namespace lbrd::daemon
