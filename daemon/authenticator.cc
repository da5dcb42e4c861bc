#include "daemon/authenticator.h"

#include <grp.h>
#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/server_context.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

constexpr char kAdminGroup[] = "lbrd";

// The names of the certificate that the other end has proved to hold.
std::vector<std::string> CertificateNames(const grpc::AuthContext& connection) {
  std::vector<std::string> names;
  for (const char* property : {GRPC_X509_SAN_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME}) {
    for (const grpc::string_ref& name : connection.FindPropertyValues(property)) {
      names.emplace_back(name.data(), name.size());
    }
    // The common name counts only where there is no other.
    if (!names.empty()) break;
  }
  return names;
}

}  // namespace

AdminPolicy Authenticator::PolicyOfMachine() {
  AdminPolicy policy{.daemon_uid = geteuid()};
  std::vector<char> text(65536);  // of all its members' names
  group found{};
  group* result = nullptr;
  if (getgrnam_r(kAdminGroup, &found, text.data(), text.size(), &result) == 0 &&
      result != nullptr) {
    policy.admin_group = found.gr_gid;
  }
  return policy;
}

absl::StatusOr<int> Authenticator::TakeUp(int socket) {
  absl::StatusOr<PeerCredentials> peer = ReadPeerCredentials(socket);
  if (!peer.ok()) return peer.status();
  const bool trusted = IdentityOf(*peer, policy_).admin();
  return peers_.Adopt(socket, *std::move(peer), trusted, absl::Now());
}

absl::StatusOr<int> Authenticator::TakeUpRemote(int socket) {
  return peers_.Adopt(socket, PeerCredentials(), /*trusted=*/false, absl::Now());
}

absl::StatusOr<Identity> Authenticator::IdentifySocket(int socket) const {
  const absl::StatusOr<PeerCredentials> peer = ReadPeerCredentials(socket);
  if (!peer.ok()) return peer.status();
  return IdentityOf(*peer, policy_);
}

absl::StatusOr<Identity> Authenticator::Identify(const grpc::ServerContext& context, double cost) {
  absl::StatusOr<Identity> who = Find(context);
  if (who.ok() && !who->admin() && !budget_.Take(who->uid, cost, absl::Now())) {
    return OverQuota(rule::kQuotaRequests, "you ask too often; wait a second");
  }
  return who;
}

absl::StatusOr<Identity> Authenticator::Find(const grpc::ServerContext& context) const {
  const std::shared_ptr<const grpc::AuthContext> connection = context.auth_context();
  if (connection != nullptr && connection->IsPeerAuthenticated()) {
    return certificates_.IdentityOf(CertificateNames(*connection));
  }
  const std::shared_ptr<const PeerCredentials> peer = peers_.Find(context.peer());
  if (peer != nullptr) return IdentityOf(*peer, policy_);
  return absl::UnauthenticatedError(
      absl::StrCat("nobody is known to be at '", context.peer(), "'; connect again"));
}

}  // namespace lbrd::daemon
