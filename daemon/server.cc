#include "daemon/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

// Requests are small; what is larger is a mistake or worse.
constexpr int kMaxRequestBytes = 1 << 20;

absl::StatusOr<sockaddr_un> SocketAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "' must have 1 to ",
                                                   sizeof(address.sun_path) - 1, " characters"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool SomebodyListens(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return connected;
}

// Leaves the path free for a socket of ours.
absl::Status ClearPath(const std::string& path) {
  const absl::StatusOr<sockaddr_un> address = SocketAddress(path);
  if (!address.ok()) return address.status();
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::PermissionDeniedError(absl::StrCat("cannot make ", folder.string(), ": ",
                                                    error.message(),
                                                    "; run as root, or choose another --socket"));
  }
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) return absl::OkStatus();
  if (!S_ISSOCK(status.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " exists and is not a socket; choose another --socket"));
  }
  if (SomebodyListens(*address)) {
    return absl::AlreadyExistsError(absl::StrCat("a daemon already listens on ", path,
                                                 "; stop it, or choose another --socket"));
  }
  unlink(path.c_str());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const std::string& path,
                                                       v1::Profiler::Service* service,
                                                       grpc::Service* history) {
  if (absl::Status clear = ClearPath(path); !clear.ok()) return clear;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  int port = 0;
  builder.AddListeningPort(absl::StrCat("unix:", path), grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service);
  if (history != nullptr) builder.RegisterService(history);
  // The socket's own mode is what keeps others out, so it must never be open, not even briefly.
  const mode_t mask = umask(0177);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  umask(mask);
  if (server == nullptr || port == 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot listen on ", path, "; run as root, or choose another --socket"));
  }
  return std::unique_ptr<Server>(new Server(path, std::move(server)));
}

Server::Server(std::string path, std::unique_ptr<grpc::Server> server)
    : path_(std::move(path)), server_(std::move(server)) {}

Server::~Server() = default;

void Server::Shutdown(absl::Time deadline) {
  server_->Shutdown(absl::ToChronoTime(deadline));
  unlink(path_.c_str());
}

}  // namespace lbrd::daemon
