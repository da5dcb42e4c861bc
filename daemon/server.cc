#include "daemon/server.h"

#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/log.h"
#include "daemon/unix_listener.h"

namespace lbrd::daemon {
namespace {

// Requests are small; what is larger is a mistake or worse.
constexpr int kMaxRequestBytes = 1 << 20;
// RPCs of one connection at a time; each takes a thread while it runs.
constexpr int kMaxRpcsOfConnection = 16;
// 8 MiB of address space each; more RPCs at a time are refused by gRPC.
constexpr int kMaxThreads = 2048;

// gRPC frees its own state with its last user, and for that joins threads that may be in the middle
// of a poll of 10 s. With one more user, which never goes, the process just ends.
void KeepGrpc() {
  static const bool kept = (grpc_init(), true);
  static_cast<void>(kept);
}

// A frame of HTTP/2 (RFC 9113): length, type, flags, stream 0.
std::string Frame(char type, const std::string& payload) {
  return absl::StrCat(
      std::string{static_cast<char>(payload.size() >> 16), static_cast<char>(payload.size() >> 8),
                  static_cast<char>(payload.size()), type, 0, 0, 0, 0, 0},
      payload);
}

// What a client takes for a server's own refusal: its (empty) settings, then that it goes away.
std::string GoAway(absl::string_view why) {
  constexpr char kSettings = 4;
  constexpr char kGoAway = 7;
  // Last stream 0: nothing was done. ENHANCE_YOUR_CALM.
  const std::string reason("\0\0\0\0\0\0\0\x0b", 8);
  return absl::StrCat(Frame(kSettings, ""), Frame(kGoAway, absl::StrCat(reason, why)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const std::string& path, mode_t mode,
                                                       v1::Profiler::Service* service,
                                                       grpc::Service* history,
                                                       Authenticator* authenticator) {
  const absl::StatusOr<int> listener = ListenOnUnixSocket(path, mode);
  if (!listener.ok()) return listener.status();
  return Serve(*listener, path, service, history, authenticator);
}

absl::StatusOr<std::unique_ptr<Server>> Server::Serve(int listening_fd, std::string path,
                                                      v1::Profiler::Service* service,
                                                      grpc::Service* history,
                                                      Authenticator* authenticator) {
  KeepGrpc();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxRpcsOfConnection);
  grpc::ResourceQuota quota("lbrd");
  quota.SetMaxThreads(kMaxThreads);
  builder.SetResourceQuota(quota);
  builder.RegisterService(service);
  if (history != nullptr) builder.RegisterService(history);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    close(listening_fd);
    if (!path.empty()) unlink(path.c_str());
    return absl::InternalError("cannot start the gRPC server");
  }
  return std::unique_ptr<Server>(
      new Server(std::move(path), listening_fd, std::move(server), authenticator));
}

Server::Server(std::string path, int listener, std::unique_ptr<grpc::Server> server,
               Authenticator* authenticator)
    : path_(std::move(path)), server_(std::move(server)), authenticator_(*authenticator) {
  accept_loop_.emplace("lbrd-accept", listener, [this](int client) { TakeUp(client); });
}

Server::~Server() { StopAccepting(); }

void Server::TakeUp(int client) {
  fcntl(client, F_SETFL, fcntl(client, F_GETFL) | O_NONBLOCK);
  const absl::StatusOr<int> connection = authenticator_.TakeUp(client);
  if (!connection.ok()) {
    const std::string refusal = GoAway(connection.status().message());
    send(client, refusal.data(), refusal.size(), MSG_NOSIGNAL);
    Log(LogLevel::kDebug, connection.status().message());
  }
  close(client);
  if (connection.ok()) grpc::AddInsecureChannelFromFd(server_.get(), *connection);
}

void Server::StopAccepting() {
  if (!accept_loop_.has_value()) return;
  accept_loop_.reset();
  if (!path_.empty()) unlink(path_.c_str());
}

void Server::Shutdown(absl::Time deadline) {
  StopAccepting();
  server_->Shutdown(absl::ToChronoTime(deadline));
}

}  // namespace lbrd::daemon
