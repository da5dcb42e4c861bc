// Whose each of the server's connections is, by the number of its descriptor.
//
// gRPC tells of an RPC only "fd:N", N being the descriptor of its connection, and closes that when
// it likes; the kernel gives the lowest free number to whoever opens something next. So that N
// never stands for two peers at once, connections are moved to numbers of a region of their own,
// taken in rotation, and a number is used again only kRetirement after its connection was seen
// closed. gRPC cancels a connection's RPCs before it closes the descriptor, so none of them asks so
// late.
//
// Whether a connection is closed is seen at its number: no descriptor there, or that of another
// socket (by inode; other descriptors may lie in the region when all lower numbers are taken). That
// needs no descriptor of ours on it, which would keep a closed socket alive.
//
// Bounds: kMaxConnections, of them kMaxConnectionsOfUser of one user other than `trusted`, and
// kReserved kept for `trusted`. Memory: 200 bytes and 4 per supplementary group for each
// connection, open or in retirement. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/peer_credentials.h"

namespace lbrd::daemon {

class PeerTable {
 public:
  static constexpr size_t kMaxConnections = 512;
  static constexpr size_t kReserved = 64;
  static constexpr size_t kMaxConnectionsOfUser = 32;
  static constexpr absl::Duration kRetirement = absl::Seconds(2);

  // Numbers are taken from [first, end).
  PeerTable(int first, int end) : first_(first), end_(end), next_(first) {}
  // The upper half of the numbers that the process may have, 65,536 of them at most: the kernel's
  // table of descriptors is as large as the highest one.
  static PeerTable OfProcess();

  // To be called while the process has one thread: the kernel's table of descriptors grows at once
  // then, and waits for all CPUs otherwise, which would cost the first connection some 10 ms.
  static void MakeRoom();

  // Another descriptor of the connection `fd`, at a number of its own; closed by whoever gets it.
  // `trusted`: the peer is an admin.
  // kResourceExhausted: too many connections, in all or of that user.
  absl::StatusOr<int> Adopt(int fd, PeerCredentials peer, bool trusted, absl::Time now);

  // Of a connection, by what gRPC calls it. nullptr: it is none of ours, or is closed.
  std::shared_ptr<const PeerCredentials> Find(absl::string_view grpc_peer) const;

 private:
  struct Connection {
    std::shared_ptr<const PeerCredentials> peer;
    ino_t inode = 0;
    absl::Time closed = absl::InfiniteFuture();  // when that was seen
  };
  // Retires what is closed, and forgets what was long enough.
  void Sweep(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A number that is free and not in retirement, with `fd` moved there; -1: none, errno says why.
  int Move(int fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int first_;
  const int end_;
  mutable absl::Mutex mutex_;  // a leaf
  int next_ ABSL_GUARDED_BY(mutex_);
  std::map<int, Connection> connections_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
