// The gRPC server on a UNIX socket, with health checking and reflection.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lbrd/v1/profiler.grpc.pb.h"

namespace lbrd::daemon {

class Server {
 public:
  // Listens on the socket at `path`, for its owner only (mode 0600); its folder is made if it is
  // missing. A socket that a dead daemon left behind is replaced; kAlreadyExists: a live one
  // listens.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(const std::string& path,
                                                        v1::Profiler::Service* service,
                                                        grpc::Service* history = nullptr);
  ~Server();
  // Stops accepting, and ends what is still open at `deadline`. Removes the socket.
  void Shutdown(absl::Time deadline);

 private:
  Server(std::string path, std::unique_ptr<grpc::Server> server);
  const std::string path_;
  const std::unique_ptr<grpc::Server> server_;
};

}  // namespace lbrd::daemon
