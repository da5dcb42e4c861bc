#include "daemon/unix_listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

constexpr int kBacklog = 128;

absl::StatusOr<sockaddr_un> SocketAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "' must have 1 to ",
                                                   sizeof(address.sun_path) - 1, " characters"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool SomebodyListens(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return connected;
}

// Leaves the path free for a socket of ours.
absl::Status ClearPath(const std::string& path, const sockaddr_un& address) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::PermissionDeniedError(absl::StrCat("cannot make ", folder.string(), ": ",
                                                    error.message(),
                                                    "; run as root, or choose another --socket"));
  }
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) return absl::OkStatus();
  if (!S_ISSOCK(status.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " exists and is not a socket; choose another --socket"));
  }
  if (SomebodyListens(address)) {
    return absl::AlreadyExistsError(absl::StrCat("a daemon already listens on ", path,
                                                 "; stop it, or choose another --socket"));
  }
  unlink(path.c_str());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int> ListenOnUnixSocket(const std::string& path, mode_t mode) {
  const absl::StatusOr<sockaddr_un> address = SocketAddress(path);
  if (!address.ok()) return address.status();
  // The modes of what is made must never be wider than meant, not even briefly.
  const mode_t mask = umask(0022);
  const absl::Status clear = ClearPath(path, *address);
  umask(~mode & 0777);
  const int listener =
      clear.ok() ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
  const bool bound =
      listener >= 0 &&
      bind(listener, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0 &&
      listen(listener, kBacklog) == 0;
  const int error = errno;
  umask(mask);
  if (!clear.ok()) return clear;
  if (bound) return listener;
  if (listener >= 0) close(listener);
  if (error != EACCES && error != EROFS) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot listen on ", path));
  }
  return absl::PermissionDeniedError(absl::StrCat("cannot listen on ", path, ": ", strerror(error),
                                                  "; run as root, or choose another --socket"));
}

}  // namespace lbrd::daemon
