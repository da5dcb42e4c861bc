// Where the figures are served: a loopback address and port, or a UNIX socket.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

struct TcpAddress {
  bool ipv6 = false;
  std::string host;   // a loopback address, numeric
  uint16_t port = 0;  // 0: any that is free
};
struct UnixAddress {
  std::string path;
};
using MetricsAddress = std::variant<TcpAddress, UnixAddress>;

// `127.0.0.1:PORT`, `[::1]:PORT` or an absolute path. The figures tell of what other users do and
// have no authorization of their own: kInvalidArgument for addresses that other machines reach.
absl::StatusOr<MetricsAddress> ParseMetricsAddress(const std::string& text);

}  // namespace lbrd::daemon
