// From an RPC to who made it: connections are taken up with the kernel's word of who is at their
// other end (daemon/peer_table.h), and requests are counted.
//
// Thread rules: thread-safe.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "daemon/authorization.h"
#include "daemon/certificate_roles.h"
#include "daemon/peer_table.h"
#include "daemon/request_budget.h"

namespace grpc {
class ServerContext;
}

namespace lbrd::daemon {

class Authenticator {
 public:
  explicit Authenticator(AdminPolicy policy = PolicyOfMachine(), UserLimits limits = {},
                         CertificateRoles certificates = {})
      : policy_(policy),
        certificates_(std::move(certificates)),
        budget_(limits.requests_per_second) {}

  // Root, who runs the daemon, and the members of group `lbrd`, if there is one. Of these, who is a
  // member now: groups are a process's own from its login on.
  static AdminPolicy PolicyOfMachine();

  // Takes up a connected socket: another descriptor of it, for grpc::AddInsecureChannelFromFd(), by
  // whose number its RPCs are known. The caller closes its own before. kResourceExhausted names the
  // rule.
  absl::StatusOr<int> TakeUp(int socket);
  // The same for a connection of another machine, of which nobody knows yet whose it is: all of
  // these together have as many as one user.
  absl::StatusOr<int> TakeUpRemote(int socket);

  // Whoever connected that socket: for those that gRPC does not serve.
  absl::StatusOr<Identity> IdentifySocket(int socket) const;

  // Who made this RPC, by the certificate or the socket of its connection, which is worth `cost`
  // ordinary requests. kUnauthenticated, kPermissionDenied, kResourceExhausted.
  absl::StatusOr<Identity> Identify(const grpc::ServerContext& context, double cost);

 private:
  absl::StatusOr<Identity> Find(const grpc::ServerContext& context) const;

  const AdminPolicy policy_;
  const CertificateRoles certificates_;
  PeerTable peers_ = PeerTable::OfProcess();
  RequestBudget budget_;
};

}  // namespace lbrd::daemon
