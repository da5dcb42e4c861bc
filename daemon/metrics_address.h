// Where the figures are served: a loopback address and port, or a UNIX socket.
#pragma once

#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "daemon/tcp_address.h"

namespace lbrd::daemon {

struct UnixAddress {
  std::string path;
};
using MetricsAddress = std::variant<TcpAddress, UnixAddress>;

// `127.0.0.1:PORT`, `[::1]:PORT` or an absolute path. The figures tell of what other users do and
// have no authorization of their own: kInvalidArgument for addresses that other machines reach.
absl::StatusOr<MetricsAddress> ParseMetricsAddress(const std::string& text);

}  // namespace lbrd::daemon
