// The gRPC server on a UNIX socket, with health checking and reflection; and for other machines,
// where that was asked for, on a TCP socket with mutual TLS.
//
// It accepts connections itself, so that each RPC's caller is known (daemon/authenticator.h), and
// hands them to gRPC, which has no port of its own. A connection that cannot be taken up is told
// why in HTTP/2's own words (GOAWAY) and closed.
//
// Thread rules: threads of its own, `lbrd-accept` and `lbrd-accept-tls`.
#pragma once

#include <grpcpp/server_builder.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/accept_loop.h"
#include "daemon/authenticator.h"
#include "daemon/health_service.h"
#include "daemon/tls_endpoint.h"
#include "lbrd/v1/profiler.grpc.pb.h"

namespace lbrd::daemon {

class Server {
 public:
  // Listens at `path` (daemon/unix_listener.h). Borrows all; `history`
  // may be nullptr.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(const std::string& path, mode_t mode,
                                                        v1::Profiler::Service* service,
                                                        grpc::Service* history,
                                                        Authenticator* authenticator);
  // Serves a socket that listens already, such as one that systemd passed. It is closed at the end;
  // `path` is removed then, unless it is empty. `remote`: where other machines are
  // served as well; its listener is the server's.
  static absl::StatusOr<std::unique_ptr<Server>> Serve(int listening_fd, std::string path,
                                                       v1::Profiler::Service* service,
                                                       grpc::Service* history,
                                                       Authenticator* authenticator,
                                                       std::optional<TlsEndpoint> remote = {});
  ~Server();
  // Stops accepting, and ends what is still open at `deadline`. Removes the socket. Once.
  void Shutdown(absl::Time deadline);

 private:
  using TlsAcceptor = grpc::experimental::ExternalConnectionAcceptor;

  Server(std::string path, std::unique_ptr<HealthService> health,
         std::unique_ptr<grpc::Server> server, std::unique_ptr<TlsAcceptor> tls_acceptor,
         Authenticator* authenticator);
  void TakeUp(int client);
  void TakeUpRemote(int client);
  void StopAccepting();

  const std::string path_;                       // empty: not ours to remove
  const std::unique_ptr<HealthService> health_;  // server_ uses it
  const std::unique_ptr<grpc::Server> server_;
  const std::unique_ptr<TlsAcceptor> tls_acceptor_;  // nullptr: other machines are not served
  Authenticator& authenticator_;
  // The last: they use the others.
  std::optional<AcceptLoop> accept_loop_;
  std::optional<AcceptLoop> tls_accept_loop_;
};

}  // namespace lbrd::daemon
