// Hands perf descriptors of sessions to local clients, which gRPC cannot: a UNIX socket beside the
// daemon's own, <socket>.fd, for its owner only (mode 0600).
//
// A client sends one line, `SESSION CPU`, and gets one: `ok RING_BYTES READ_FORMAT SAMPLE_TYPE`
// (the last two in hexadecimal) with the descriptor of the session's sampling event on that CPU as
// SCM_RIGHTS, or `error CODE MESSAGE`, CODE being absl's number. Then the connection is closed.
//
// The descriptor is the event itself, not a view of it. It keeps the event alive when the session
// or the daemon is gone (a session that ends stops its events; their counts can still be read, and
// they can be enabled again), and it maps the CPU's ring if asked with exactly RING_BYTES. It is
// for reading: mapped without PROT_WRITE, data_tail stays the daemon's. The kernel enforces none of
// that: perf descriptors are always open for writing, so whoever gets one can also enable, disable
// and change the event, and move data_tail. That is why only who may use the daemon's socket may
// ask.
//
// Clients are served one after the other; one that takes longer than kPatience is cut off.
// Thread rules: one thread of its own, `lbrd-fd`.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/session_table.h"

namespace lbrd::daemon {

class DescriptorServer {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(1);
  // The longest line; a session's name is shorter.
  static constexpr size_t kMaxLineBytes = 256;

  // Listens on `path`, replacing what a dead daemon left behind. Borrows the table.
  static absl::StatusOr<std::unique_ptr<DescriptorServer>> Listen(const std::string& path,
                                                                  const SessionTable* sessions);
  // Serves a socket that somebody else made, and who removes it. Owns `listener`.
  static absl::StatusOr<std::unique_ptr<DescriptorServer>> Serve(int listener,
                                                                 const SessionTable* sessions);
  // Stops listening and removes the socket, if it made it.
  ~DescriptorServer();

 private:
  DescriptorServer(std::string path, const SessionTable* sessions, int listener, int stop);
  void Run();
  void ServeClient(int client) const;
  absl::Status Answer(int client, const std::string& line) const;

  const std::string path_;  // empty: not ours to remove
  const SessionTable& sessions_;
  const int listener_;
  const int stop_;
  std::thread thread_;
};

}  // namespace lbrd::daemon
