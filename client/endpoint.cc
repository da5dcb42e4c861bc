#include "client/endpoint.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lbrd::client {
namespace {

constexpr int kPatienceMs = 5'000;

absl::Status TrySocket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "' must have 1 to ",
                                                   sizeof(address.sun_path) - 1, " characters"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot make a socket");
  const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  close(fd);
  if (result == 0) return absl::OkStatus();
  if (error == EACCES || error == EPERM) {
    return absl::PermissionDeniedError(
        absl::StrCat("no permission for ", path, "; run lbrctl as root (sudo lbrctl …)"));
  }
  if (error == ENOENT || error == ECONNREFUSED) {
    return absl::UnavailableError(absl::StrCat(
        "no daemon listens on ", path, "; start one (sudo lbrd), or name its socket (--socket)"));
  }
  return absl::ErrnoToStatus(error, absl::StrCat("cannot connect to ", path));
}

// 0, or an errno.
int TryAddress(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int error = connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd entry{fd, POLLOUT, 0};
    socklen_t size = sizeof(error);
    error = ETIMEDOUT;
    if (poll(&entry, 1, kPatienceMs) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  close(fd);
  return error;
}

absl::Status CheckHost(const std::string& host) {
  const size_t colon = host.rfind(':');
  if (colon != std::string::npos && colon != 0 && colon + 1 != host.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--host must be HOST:PORT, like build-7.example.com:7431, not '", host, "'"));
}

absl::Status TryHost(const std::string& host) {
  if (absl::Status good = CheckHost(host); !good.ok()) return good;
  const size_t colon = host.rfind(':');
  std::string name = host.substr(0, colon);
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') {
    name = name.substr(1, name.size() - 2);
  }
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(name.c_str(), host.c_str() + colon + 1, &wanted, &found);
      error != 0) {
    return absl::NotFoundError(absl::StrCat("cannot find ", host, ": ", gai_strerror(error)));
  }
  int error = ENOENT;
  for (const addrinfo* address = found; address != nullptr && error != 0;
       address = address->ai_next) {
    error = TryAddress(*address);
  }
  freeaddrinfo(found);
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("no daemon answers at ", host, ": ", strerror(error),
                   "; does lbrd serve other machines there (tls-listen, lbrd-tls.socket)?"));
}

absl::StatusOr<std::string> ReadPem(const char* option, const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--host needs ", option,
                                                   " too: mutual TLS takes the authority's "
                                                   "certificate, your own, and its key"));
  }
  std::ifstream file(path);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError(absl::StrCat(option, ": cannot read ", path, ": ", strerror(errno)));
  }
  if (!absl::StrContains(text.str(), "-----BEGIN ")) {
    return absl::InvalidArgumentError(absl::StrCat(option, ": ", path, " is not PEM"));
  }
  return text.str();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const Endpoint& endpoint) {
  if (!endpoint.remote()) return grpc::InsecureChannelCredentials();
  if (absl::Status good = CheckHost(endpoint.host); !good.ok()) return good;
  absl::StatusOr<std::string> authorities = ReadPem("--tls-ca", endpoint.authorities);
  if (!authorities.ok()) return authorities.status();
  absl::StatusOr<std::string> certificate = ReadPem("--tls-cert", endpoint.certificate);
  if (!certificate.ok()) return certificate.status();
  absl::StatusOr<std::string> key = ReadPem("--tls-key", endpoint.key);
  if (!key.ok()) return key.status();
  return grpc::SslCredentials({.pem_root_certs = *std::move(authorities),
                               .pem_private_key = *std::move(key),
                               .pem_cert_chain = *std::move(certificate)});
}

}  // namespace

absl::Status TryEndpoint(const Endpoint& endpoint) {
  return endpoint.remote() ? TryHost(endpoint.host) : TrySocket(endpoint.socket);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const Endpoint& endpoint) {
  const absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials =
      Credentials(endpoint);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxResponseBytes);
  // A broken stream is resumed within seconds, or not at all. (GRPC_ARG_MIN_RECONNECT_BACKOFF_MS is
  // left alone: it also bounds how long one attempt may take, and a busy machine takes its time.)
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  const std::string target =
      endpoint.remote() ? endpoint.host : absl::StrCat("unix:", endpoint.socket);
  return grpc::CreateCustomChannel(target, *credentials, arguments);
}

}  // namespace lbrd::client
