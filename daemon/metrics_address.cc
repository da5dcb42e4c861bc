#include "daemon/metrics_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include "absl/strings/numbers.h"
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

bool IsLoopback(const TcpAddress& address, bool* numeric) {
  in6_addr six{};
  in_addr four{};
  if (address.ipv6) {
    *numeric = inet_pton(AF_INET6, address.host.c_str(), &six) == 1;
    return *numeric && IN6_IS_ADDR_LOOPBACK(&six);
  }
  *numeric = inet_pton(AF_INET, address.host.c_str(), &four) == 1;
  return *numeric && (ntohl(four.s_addr) >> 24) == 127;
}

}  // namespace

absl::StatusOr<MetricsAddress> ParseMetricsAddress(const std::string& text) {
  if (text.find('\0') != std::string::npos) return Malformed();
  if (!text.empty() && text[0] == '/') {
    if (text.size() > kMaxPath) return Malformed();
    return UnixAddress{text};
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return Malformed();
  TcpAddress address;
  uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port > UINT16_MAX) return Malformed();
  address.port = static_cast<uint16_t>(port);
  address.host = text.substr(0, colon);
  address.ipv6 =
      address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']';
  if (address.ipv6) address.host = address.host.substr(1, address.host.size() - 2);
  bool numeric = false;
  if (IsLoopback(address, &numeric)) return address;
  if (!numeric) return Malformed();
  return absl::InvalidArgumentError(
      absl::StrCat(address.host,
                   " can be reached from other machines, and the figures are for this one: use "
                   "127.0.0.1 or [::1], or let systemd open the socket (lbrd-metrics.socket)"));
}

}  // namespace lbrd::daemon
