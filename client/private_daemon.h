// A daemon of one's own: lbrd --replay, for reading a recording without root and without a service.
//
// Everything that parses a recording runs in that process, not in lbrctl.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace lbrd::client {

class PrivateDaemon {
 public:
  // Starts `program` (empty: the lbrd beside this program, or in PATH) and connects to it.
  // `quiet`: it says only what went wrong; otherwise also what takes it long, on standard error.
  // kNotFound: there is none.
  static absl::StatusOr<PrivateDaemon> Start(const std::string& program, bool quiet);
  PrivateDaemon(PrivateDaemon&& other) noexcept;
  PrivateDaemon& operator=(PrivateDaemon&&) = delete;
  ~PrivateDaemon();  // ends it

  const Client& client() const { return *client_; }

 private:
  PrivateDaemon(pid_t pid, Client client) : pid_(pid), client_(std::move(client)) {}
  pid_t pid_;
  std::optional<Client> client_;  // until the daemon is ended
};

}  // namespace lbrd::client
