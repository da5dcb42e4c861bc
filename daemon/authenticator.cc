#include "daemon/authenticator.h"

#include <grp.h>
#include <grpcpp/server_context.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

constexpr char kAdminGroup[] = "lbrd";

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

absl::StatusOr<Identity> Authenticator::IdentifySocket(int socket) const {
  const absl::StatusOr<PeerCredentials> peer = ReadPeerCredentials(socket);
  if (!peer.ok()) return peer.status();
  return IdentityOf(*peer, policy_);
}

absl::StatusOr<Identity> Authenticator::Identify(const grpc::ServerContext& context, double cost) {
  const std::shared_ptr<const PeerCredentials> peer = peers_.Find(context.peer());
  if (peer == nullptr) {
    return absl::UnauthenticatedError(
        absl::StrCat("nobody is known to be at '", context.peer(), "'; connect again"));
  }
  Identity who = IdentityOf(*peer, policy_);
  if (!who.admin() && !budget_.Take(who.uid, cost, absl::Now())) {
    return OverQuota(rule::kQuotaRequests, "you ask too often; wait a second");
  }
  return who;
}

}  // namespace lbrd::daemon
