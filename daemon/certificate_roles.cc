#include "daemon/certificate_roles.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace lbrd::daemon {
namespace {

// Names of a certificate that a denial tells of.
constexpr size_t kMaxNamesTold = 3;

std::vector<absl::string_view> Items(absl::string_view list) {
  std::vector<absl::string_view> items;
  for (const absl::string_view item : absl::StrSplit(list, ',')) {
    const absl::string_view name = absl::StripAsciiWhitespace(item);
    if (!name.empty()) items.push_back(name);
  }
  return items;
}

}  // namespace

absl::StatusOr<CertificateRoles> CertificateRoles::Parse(absl::string_view admins,
                                                         absl::string_view users) {
  CertificateRoles roles;
  const auto add = [&roles](absl::string_view name, Identity who) -> absl::Status {
    who.certificate = std::string(name);
    if (roles.roles_.emplace(name, std::move(who)).second) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, " is named twice: a name has one role"));
  };
  for (const absl::string_view name : Items(admins)) {
    if (absl::Status added = add(name, {.role = Role::kAdmin, .uid = 0}); !added.ok()) return added;
  }
  for (const absl::string_view item : Items(users)) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(item, absl::MaxSplits('=', 1));
    const absl::string_view name = absl::StripAsciiWhitespace(parts.first);
    uint32_t uid = 0;
    if (name.empty() || !absl::SimpleAtoi(parts.second, &uid) || uid == UINT32_MAX) {
      return absl::InvalidArgumentError(absl::StrCat(
          "must be names of certificates and numbers of users, like alice.example.com=1500"));
    }
    if (uid == 0) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": user 0 is an admin: tls-admins"));
    }
    if (absl::Status added = add(name, {.role = Role::kUser, .uid = uid}); !added.ok()) {
      return added;
    }
  }
  return roles;
}

absl::StatusOr<Identity> CertificateRoles::IdentityOf(std::span<const std::string> names) const {
  for (const std::string& name : names) {
    if (const auto found = roles_.find(name); found != roles_.end()) return found->second;
  }
  std::vector<std::string> told;
  for (const std::string& name : names.first(std::min(names.size(), kMaxNamesTold))) {
    told.push_back(absl::CEscape(absl::string_view(name).substr(0, 100)));
  }
  return Denied(rule::kCertificates,
                absl::StrCat("lbrd.toml gives no role to this certificate (",
                             told.empty() ? "it has no name" : absl::StrJoin(told, ", "),
                             "): see tls-admins and tls-users in lbrd.toml(5)"));
}

}  // namespace lbrd::daemon
