#include "daemon/peer_table.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/authorization.h"

namespace lbrd::daemon {
namespace {

constexpr rlim_t kRegion = 65536;

// 0: not a socket.
ino_t SocketInode(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

}  // namespace

PeerTable PeerTable::OfProcess() {
  rlimit limit;
  const rlim_t most = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
  const rlim_t first = std::min(most / 2, kRegion);
  return PeerTable(static_cast<int>(first), static_cast<int>(std::min(most, first + kRegion)));
}

void PeerTable::MakeRoom() {
  const PeerTable table = OfProcess();
  const int any = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int far = fcntl(any, F_DUPFD_CLOEXEC, table.first_);
  // Where there is no room, the first connection says so.
  if (far >= 0) close(far);
  if (any >= 0) close(any);
}

void PeerTable::Sweep(absl::Time now) {
  for (auto i = connections_.begin(); i != connections_.end();) {
    Connection& connection = i->second;
    if (connection.closed == absl::InfiniteFuture() && SocketInode(i->first) != connection.inode) {
      connection.closed = now;
    }
    i = now - connection.closed > kRetirement ? connections_.erase(i) : std::next(i);
  }
}

int PeerTable::Move(int fd) {
  // Twice at most around the region: from where the last one was, and from its start.
  int from = next_;
  for (bool wrapped = false; true;) {
    const int moved = from < end_ ? fcntl(fd, F_DUPFD_CLOEXEC, from) : -1;
    if (moved >= 0 && moved < end_ && connections_.count(moved) == 0) {
      next_ = moved + 1;
      return moved;
    }
    if (moved >= 0) close(moved);
    if (moved >= 0 && moved < end_) {
      from = moved + 1;
      continue;
    }
    if (wrapped) {
      errno = EMFILE;
      return -1;
    }
    wrapped = true;
    from = first_;
  }
}

absl::StatusOr<int> PeerTable::Adopt(int fd, PeerCredentials peer, bool trusted, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  Sweep(now);
  size_t open = 0;
  size_t of_user = 0;
  for (const auto& [number, connection] : connections_) {
    if (connection.closed != absl::InfiniteFuture()) continue;
    ++open;
    of_user += connection.peer->uid == peer.uid;
  }
  if (!trusted && of_user >= kMaxConnectionsOfUser) {
    return OverQuota(rule::kQuotaConnections, absl::StrCat("user ", peer.uid, " has ", of_user,
                                                           " connections, which is the most"));
  }
  if (open >= kMaxConnections - (trusted ? 0 : kReserved)) {
    return OverQuota(rule::kQuotaConnections,
                     absl::StrCat(open, " connections are open, which is the most"));
  }
  const int moved = Move(fd);
  if (moved < 0) return absl::ErrnoToStatus(errno, "no descriptor is left for a connection");
  connections_[moved] = {.peer = std::make_shared<const PeerCredentials>(std::move(peer)),
                         .inode = SocketInode(moved)};
  return moved;
}

std::shared_ptr<const PeerCredentials> PeerTable::Find(absl::string_view grpc_peer) const {
  int number = 0;
  if (!absl::ConsumePrefix(&grpc_peer, "fd:") || !absl::SimpleAtoi(grpc_peer, &number)) {
    return nullptr;
  }
  absl::MutexLock lock(&mutex_);
  const auto found = connections_.find(number);
  if (found == connections_.end() || found->second.closed != absl::InfiniteFuture()) {
    return nullptr;
  }
  return found->second.peer;
}

}  // namespace lbrd::daemon
