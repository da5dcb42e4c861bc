// Hands perf descriptors of sessions to local clients, which gRPC cannot: a UNIX socket beside the
// daemon's own, <socket>.fd. Who may have which: daemon/authorization.h.
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
// and change the event, and move data_tail: of one's own process, or as an admin.
//
// A client that takes longer than kPatience is cut off. kMaxClients are served at once, of one user
// other than the admins kMaxClientsOfUser; more are refused.
// Thread rules: one thread of its own, `lbrd-fd`.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/audit.h"
#include "daemon/authenticator.h"
#include "daemon/authorization.h"
#include "daemon/session_table.h"

namespace lbrd::daemon {

class DescriptorServer {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(1);
  // The longest line; a session's name is shorter.
  static constexpr size_t kMaxLineBytes = 256;
  static constexpr size_t kMaxClients = 64;
  static constexpr size_t kMaxClientsOfUser = 4;

  // Serves a socket that somebody else made, and who removes it. Owns `listener`.
  static absl::StatusOr<std::unique_ptr<DescriptorServer>> Serve(int listener,
                                                                 const SessionTable* sessions,
                                                                 const Authenticator* authenticator,
                                                                 Audit* audit);
  ~DescriptorServer();

 private:
  struct Client {
    int fd = -1;
    Identity who;
    absl::Time deadline;
    std::string line;  // as far as it has come
  };

  DescriptorServer(const SessionTable* sessions, const Authenticator* authenticator, Audit* audit,
                   int listener, int stop);
  void Run();
  void Accept(std::vector<Client>* clients) const;
  // Reads what there is; true: the client is done with.
  bool Serve(Client* client) const;
  absl::Status Answer(const Client& client) const;

  const SessionTable& sessions_;
  const Authenticator& authenticator_;
  Audit& audit_;
  const int listener_;
  const int stop_;
  std::thread thread_;
};

}  // namespace lbrd::daemon
