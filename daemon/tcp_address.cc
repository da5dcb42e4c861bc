#include "daemon/tcp_address.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

absl::StatusOr<int> Listen(int family, const sockaddr* address, socklen_t size, int backlog,
                           const std::string& where) {
  const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) return absl::ErrnoToStatus(errno, "cannot make a socket");
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(listener, address, size) == 0 && listen(listener, backlog) == 0) return listener;
  const int error = errno;
  close(listener);
  return absl::ErrnoToStatus(error, absl::StrCat("cannot listen on ", where));
}

}  // namespace

bool TcpAddress::loopback() const {
  in6_addr six{};
  in_addr four{};
  if (ipv6) return inet_pton(AF_INET6, host.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
  return inet_pton(AF_INET, host.c_str(), &four) == 1 && (ntohl(four.s_addr) >> 24) == 127;
}

std::optional<TcpAddress> ParseTcpAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || text.find('\0') != std::string::npos) return std::nullopt;
  TcpAddress address;
  uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port > UINT16_MAX) return std::nullopt;
  address.port = static_cast<uint16_t>(port);
  address.host = text.substr(0, colon);
  address.ipv6 =
      address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']';
  if (address.ipv6) address.host = address.host.substr(1, address.host.size() - 2);
  in6_addr any{};
  if (inet_pton(address.ipv6 ? AF_INET6 : AF_INET, address.host.c_str(), &any) != 1) {
    return std::nullopt;
  }
  return address;
}

absl::StatusOr<int> ListenOnTcp(const TcpAddress& tcp, int backlog) {
  const std::string where = absl::StrCat(tcp.host, " port ", tcp.port);
  if (tcp.ipv6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(tcp.port);
    inet_pton(AF_INET6, tcp.host.c_str(), &address.sin6_addr);
    return Listen(AF_INET6, reinterpret_cast<const sockaddr*>(&address), sizeof(address), backlog,
                  where);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(tcp.port);
  inet_pton(AF_INET, tcp.host.c_str(), &address.sin_addr);
  return Listen(AF_INET, reinterpret_cast<const sockaddr*>(&address), sizeof(address), backlog,
                where);
}

}  // namespace lbrd::daemon
