#include "daemon/metrics_address.h"

#include <sys/un.h>

#include <optional>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

absl::Status Malformed() {
  return absl::InvalidArgumentError(
      absl::StrCat("must be 127.0.0.1:PORT, [::1]:PORT, or the path of a UNIX socket (absolute, at "
                   "most ",
                   kMaxPath, " characters)"));
}

}  // namespace

absl::StatusOr<MetricsAddress> ParseMetricsAddress(const std::string& text) {
  if (text.find('\0') != std::string::npos) return Malformed();
  if (!text.empty() && text[0] == '/') {
    if (text.size() > kMaxPath) return Malformed();
    return UnixAddress{text};
  }
  const std::optional<TcpAddress> address = ParseTcpAddress(text);
  if (!address.has_value()) return Malformed();
  if (address->loopback()) return *address;
  return absl::InvalidArgumentError(
      absl::StrCat(address->host,
                   " can be reached from other machines, and the figures are for this one: use "
                   "127.0.0.1 or [::1], or let systemd open the socket (lbrd-metrics.socket)"));
}

}  // namespace lbrd::daemon
