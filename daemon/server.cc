#include "daemon/server.h"

#include <fcntl.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
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
                                                       Authenticator* authenticator) {
  const absl::StatusOr<int> listener = ListenOnUnixSocket(path, mode);
  if (!listener.ok()) return listener.status();
  return Serve(*listener, path, service, authenticator);
}

absl::StatusOr<std::unique_ptr<Server>> Server::Serve(int listening_fd, std::string path,
                                                      v1::Profiler::Service* service,
                                                      Authenticator* authenticator) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxRpcsOfConnection);
  grpc::ResourceQuota quota("lbrd");
  quota.SetMaxThreads(kMaxThreads);
  builder.SetResourceQuota(quota);
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const int stop = server == nullptr ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  // A client that left between poll and accept must not keep us waiting for the next one.
  fcntl(listening_fd, F_SETFL, fcntl(listening_fd, F_GETFL) | O_NONBLOCK);
  if (stop < 0) {
    close(listening_fd);
    if (!path.empty()) unlink(path.c_str());
    return absl::InternalError("cannot start the gRPC server");
  }
  return std::unique_ptr<Server>(
      new Server(std::move(path), listening_fd, stop, std::move(server), authenticator));
}

Server::Server(std::string path, int listener, int stop, std::unique_ptr<grpc::Server> server,
               Authenticator* authenticator)
    : path_(std::move(path)),
      listener_(listener),
      stop_(stop),
      server_(std::move(server)),
      authenticator_(*authenticator),
      thread_([this] {
        pthread_setname_np(pthread_self(), "lbrd-accept");
        Accept();
      }) {}

Server::~Server() {
  StopAccepting();
  close(stop_);
}

void Server::Accept() {
  while (true) {
    pollfd entries[2] = {{listener_, POLLIN, 0}, {stop_, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    if (entries[0].revents == 0) continue;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
      // Out of descriptors: who waits stays in the queue, and would wake us at once again.
      if (errno == EMFILE || errno == ENFILE) absl::SleepFor(absl::Milliseconds(100));
      continue;
    }
    const absl::StatusOr<int> connection = authenticator_.TakeUp(client);
    if (!connection.ok()) {
      const std::string refusal = GoAway(connection.status().message());
      send(client, refusal.data(), refusal.size(), MSG_NOSIGNAL);
      Log(LogLevel::kDebug, connection.status().message());
    }
    close(client);
    if (connection.ok()) grpc::AddInsecureChannelFromFd(server_.get(), *connection);
  }
}

void Server::StopAccepting() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_, &one, sizeof(one));
  thread_.join();
  close(listener_);
  if (!path_.empty()) unlink(path_.c_str());
}

void Server::Shutdown(absl::Time deadline) {
  StopAccepting();
  server_->Shutdown(absl::ToChronoTime(deadline));
}

}  // namespace lbrd::daemon
