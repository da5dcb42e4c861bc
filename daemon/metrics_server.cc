#include "daemon/metrics_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/http_request.h"

namespace lbrd::daemon {
namespace {

// Clients that wait while one is served.
constexpr int kBacklog = 16;

// Whether there is something to do on the connection before the deadline.
bool WaitFor(int connection, short event, absl::Time deadline) {
  while (true) {
    pollfd entry{connection, event, 0};
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    const int ready = poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(left)));
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0;
  }
}

std::string ReceiveHead(int connection, absl::Time deadline) {
  std::string head;
  char piece[1024];
  while (head.size() < kMaxHttpHeadBytes && !HasHttpHead(head) &&
         WaitFor(connection, POLLIN, deadline)) {
    const ssize_t got = recv(connection, piece, sizeof(piece), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) break;
    head.append(piece, static_cast<size_t>(got));
  }
  return head;
}

void Send(int connection, absl::string_view text, absl::Time deadline) {
  while (!text.empty() && WaitFor(connection, POLLOUT, deadline)) {
    const ssize_t sent = send(connection, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent <= 0) return;
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

void ServeClient(int connection, const std::function<std::string()>& page) {
  const absl::Time deadline = absl::Now() + MetricsServer::kPatience;
  const std::string head = ReceiveHead(connection, deadline);
  // Who connects and says nothing gets nothing.
  if (!head.empty()) Send(connection, AnswerHttp(head, page), deadline);
  // What was not read would make close() reset the connection, and lose the answer with it.
  shutdown(connection, SHUT_WR);
  char unread[4096];
  for (int i = 0; i < 16 && recv(connection, unread, sizeof(unread), MSG_DONTWAIT) > 0; ++i) {
  }
  close(connection);
}

absl::StatusOr<int> Bound(const UnixAddress& unix_address) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, unix_address.path.data(), unix_address.path.size());
  struct stat status;
  if (lstat(address.sun_path, &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat(unix_address.path, " exists and is not a socket; choose another --metrics"));
    }
    unlink(address.sun_path);
  }
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) return absl::ErrnoToStatus(errno, "cannot make a socket");
  // Its mode is what keeps others out, so it must never be open, not even briefly.
  const mode_t mask = umask(0177);
  const bool bound =
      bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      listen(listener, kBacklog) == 0;
  const int error = errno;
  umask(mask);
  if (bound) return listener;
  close(listener);
  return absl::ErrnoToStatus(error, absl::StrCat("cannot listen on ", unix_address.path));
}

absl::StatusOr<int> Bound(const TcpAddress& address) { return ListenOnTcp(address, kBacklog); }

}  // namespace

absl::StatusOr<int> ListenForMetrics(const MetricsAddress& address) {
  return std::visit([](const auto& one) { return Bound(one); }, address);
}

MetricsServer::MetricsServer(int listener, std::function<std::string()> page)
    : accept_loop_("lbrd-metrics", listener,
                   [page = std::move(page)](int connection) { ServeClient(connection, page); }) {}

}  // namespace lbrd::daemon
