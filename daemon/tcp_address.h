// An address and port of TCP, numeric: names would have to be looked up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

struct TcpAddress {
  bool ipv6 = false;
  std::string host;   // numeric
  uint16_t port = 0;  // 0: any that is free

  bool loopback() const;
};

// `192.0.2.1:PORT`, `0.0.0.0:PORT`, `[2001:db8::1]:PORT` or `[::]:PORT`. nullopt: it is none.
std::optional<TcpAddress> ParseTcpAddress(const std::string& text);

// A socket that listens there; close-on-exec. `backlog`: connections that wait.
absl::StatusOr<int> ListenOnTcp(const TcpAddress& address, int backlog);

}  // namespace lbrd::daemon
