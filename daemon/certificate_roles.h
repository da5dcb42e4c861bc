// Who the holder of a client's certificate is: what lbrd.toml says of the certificate's names.
//
//   tls-admins = "ops.example.com, build-7"     may do everything
//   tls-users = "alice.example.com=1500"        is user 1500 of this machine
//
// That a certificate is genuine is TLS's to check, against tls-ca.
//
// Thread rules: a value.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/authorization.h"

namespace lbrd::daemon {

class CertificateRoles {
 public:
  // Nobody has a role.
  CertificateRoles() = default;
  // The two settings. kInvalidArgument: what is wrong, and what is right.
  static absl::StatusOr<CertificateRoles> Parse(absl::string_view admins, absl::string_view users);

  bool empty() const { return roles_.empty(); }
  // Of a certificate's names, its subject's alternative ones or else its common name, the first
  // that has a role. kPermissionDenied names the rule.
  absl::StatusOr<Identity> IdentityOf(std::span<const std::string> names) const;

 private:
  std::map<std::string, Identity> roles_;
};

}  // namespace lbrd::daemon
