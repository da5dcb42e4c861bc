#include "daemon/server.h"

#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/log.h"
#include "daemon/unix_listener.h"
#include "lbrd/v1/history.grpc.pb.h"

namespace lbrd::daemon {
namespace {

// Requests are small; what is larger is a mistake or worse.
constexpr int kMaxRequestBytes = 1 << 20;
// RPCs of one connection at a time; each takes a thread while it runs.
constexpr int kMaxRpcsOfConnection = 16;
// Lines a second.
constexpr int kMostLoggedOfGrpc = 5;
// Of TLS: who says nothing for so long takes a connection's place no longer.
constexpr int kHandshakePatienceMs = 10'000;
// 8 MiB of address space each; more RPCs at a time are refused by gRPC.
constexpr int kMaxThreads = 2048;

// What gRPC has to say of its connections, which others can make it say as often as they like.
void LogOfGrpc(gpr_log_func_args* message) {
  static absl::Mutex mutex(absl::kConstInit);
  static absl::Time second;
  static int logged = 0;
  {
    absl::MutexLock lock(&mutex);
    const absl::Time now = absl::Now();
    if (now - second >= absl::Seconds(1)) {
      second = now;
      logged = 0;
    }
    if (++logged > kMostLoggedOfGrpc) return;
  }
  Log(LogLevel::kWarning, absl::StrCat("gRPC: ", message->message));
}

// gRPC frees its own state with its last user, and for that joins threads that may be in the middle
// of a poll of 10 s. With one more user, which never goes, the process just ends.
void KeepGrpc() {
  static const bool kept = (gpr_set_log_function(LogOfGrpc), grpc_init(), true);
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
                                                      Authenticator* authenticator,
                                                      std::optional<TlsEndpoint> remote) {
  KeepGrpc();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxRpcsOfConnection);
  grpc::ResourceQuota quota("lbrd");
  quota.SetMaxThreads(kMaxThreads);
  builder.SetResourceQuota(quota);
  std::vector<std::string> names = {v1::Profiler::service_full_name()};
  builder.RegisterService(service);
  if (history != nullptr) {
    builder.RegisterService(history);
    names.emplace_back(v1::History::service_full_name());
  }
  auto health = std::make_unique<HealthService>(std::move(names));
  builder.RegisterService(health.get());
  std::unique_ptr<TlsAcceptor> tls_acceptor;
  if (remote.has_value()) {
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakePatienceMs);
    tls_acceptor = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        remote->credentials);
  }
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    close(listening_fd);
    if (remote.has_value()) close(remote->listener);
    if (!path.empty()) unlink(path.c_str());
    return absl::InternalError("cannot start the gRPC server");
  }
  std::unique_ptr<Server> served(new Server(std::move(path), std::move(health), std::move(server),
                                            std::move(tls_acceptor), authenticator));
  Server* const self = served.get();
  self->accept_loop_.emplace("lbrd-accept", listening_fd,
                             [self](int client) { self->TakeUp(client); });
  if (remote.has_value()) {
    self->tls_accept_loop_.emplace("lbrd-accept-tls", remote->listener,
                                   [self](int client) { self->TakeUpRemote(client); });
  }
  return served;
}

Server::Server(std::string path, std::unique_ptr<HealthService> health,
               std::unique_ptr<grpc::Server> server, std::unique_ptr<TlsAcceptor> tls_acceptor,
               Authenticator* authenticator)
    : path_(std::move(path)),
      health_(std::move(health)),
      server_(std::move(server)),
      tls_acceptor_(std::move(tls_acceptor)),
      authenticator_(*authenticator) {}

Server::~Server() {
  StopAccepting();
  health_->Close();
}

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

void Server::TakeUpRemote(int client) {
  fcntl(client, F_SETFL, fcntl(client, F_GETFL) | O_NONBLOCK);
  const absl::StatusOr<int> connection = authenticator_.TakeUpRemote(client);
  close(client);
  if (!connection.ok()) {
    // Before its handshake there are no words that it would understand.
    Log(LogLevel::kDebug, absl::StrCat("TLS: ", connection.status().message()));
    return;
  }
  const int one = 1;
  setsockopt(*connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  TlsAcceptor::NewConnectionParameters parameters;
  parameters.fd = *connection;
  tls_acceptor_->HandleNewConnection(&parameters);
}

void Server::StopAccepting() {
  tls_accept_loop_.reset();
  if (!accept_loop_.has_value()) return;
  accept_loop_.reset();
  if (!path_.empty()) unlink(path_.c_str());
}

void Server::Shutdown(absl::Time deadline) {
  StopAccepting();
  health_->Close();
  server_->Shutdown(absl::ToChronoTime(deadline));
}

}  // namespace lbrd::daemon
