#include "daemon/systemd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cstddef>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

// Of a UNIX socket; empty: it has none, or is no UNIX socket.
std::string BoundPath(int fd) {
  sockaddr_un address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.sun_family != AF_UNIX || size <= offsetof(sockaddr_un, sun_path)) {
    return "";
  }
  return std::string(address.sun_path,
                     strnlen(address.sun_path, size - offsetof(sockaddr_un, sun_path)));
}

}  // namespace

absl::StatusOr<GivenSockets> TakeGivenSockets() {
  char** names = nullptr;
  // Children do not inherit the variables that speak of them.
  const int count = sd_listen_fds_with_names(/*unset_environment=*/1, &names);
  GivenSockets given;
  absl::Status status;
  if (count < 0) status = absl::ErrnoToStatus(-count, "cannot take systemd's sockets");
  for (int i = 0; i < count; ++i) {
    const int fd = SD_LISTEN_FDS_START + i;
    const std::string name = names[i];
    int* use = nullptr;
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, /*listening=*/1) > 0) {
      const std::string path = BoundPath(fd);
      if (name == "metrics") {
        use = &given.metrics;
      } else if (name == "tls") {
        use = &given.tls;
      } else if (!path.empty()) {
        use = absl::EndsWith(path, ".fd") ? &given.descriptors : &given.requests;
      }
    }
    if (use == nullptr || *use >= 0) {
      status =
          absl::InvalidArgumentError(absl::StrCat("systemd passes a socket (", name,
                                                  ") that lbrd has no use for; compare "
                                                  "lbrd.socket with the one that came with it"));
      continue;
    }
    *use = fd;
  }
  for (int i = 0; i < count; ++i) std::free(names[i]);
  std::free(names);
  if (!status.ok()) return status;
  if (given.descriptors >= 0 && given.requests < 0) {
    return absl::InvalidArgumentError(
        "systemd passes the socket for descriptors but not the one for requests");
  }
  return given;
}

void NotifySystemd(absl::string_view message) { sd_notify(0, std::string(message).c_str()); }

absl::Duration WatchdogInterval() {
  uint64_t microseconds = 0;
  if (sd_watchdog_enabled(/*unset_environment=*/0, &microseconds) <= 0) {
    return absl::InfiniteDuration();
  }
  return absl::Microseconds(static_cast<int64_t>(microseconds));
}

}  // namespace lbrd::daemon
