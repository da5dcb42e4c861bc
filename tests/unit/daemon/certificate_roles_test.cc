#include "daemon/certificate_roles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;
using Names = std::vector<std::string>;

TEST(CertificateRolesTest, GivesTheRoleOfTheFirstNameThatHasOne) {
  const auto good = CertificateRoles::Parse("ops.example.com, build-7", " alice = 1500 ,bob=1501,");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_FALSE(good->empty());
  const auto admin = good->IdentityOf(Names{"build-7"});
  ASSERT_TRUE(admin.ok());
  EXPECT_TRUE(admin->admin());
  EXPECT_EQ(admin->uid, 0u);
  EXPECT_EQ(admin->certificate, "build-7");
  const auto user = good->IdentityOf(Names{"unknown", "bob", "build-7"});
  ASSERT_TRUE(user.ok());
  EXPECT_FALSE(user->admin());
  EXPECT_EQ(user->uid, 1501u);
  EXPECT_EQ(user->certificate, "bob");
}

TEST(CertificateRolesTest, NobodyElseIsAnybody) {
  const CertificateRoles none;
  EXPECT_TRUE(none.empty());
  const auto roles = CertificateRoles::Parse("ops", "alice=1500");
  ASSERT_TRUE(roles.ok());
  for (const Names& names : {Names{}, Names{""}, Names{"op"}, Names{"ops2"}, Names{"OPS"},
                             Names{"alice=1500"}, Names{"alice "}, Names{"a\nb"}}) {
    for (const CertificateRoles* some : {&none, &*roles}) {
      const auto who = some->IdentityOf(names);
      ASSERT_FALSE(who.ok());
      EXPECT_EQ(who.status().code(), absl::StatusCode::kPermissionDenied);
      EXPECT_EQ(RuleOf(who.status()), rule::kCertificates);
      EXPECT_EQ(who.status().message().find('\n'), std::string::npos);
    }
  }
  EXPECT_THAT(std::string(roles->IdentityOf(Names{}).status().message()), HasSubstr("no name"));
}

TEST(CertificateRolesTest, RefusesWhatHasNoMeaning) {
  for (const char* users : {"alice", "alice=", "alice=x", "=1500", "alice=-1", "alice=4294967295",
                            "alice=4294967296", "alice=0", "alice=1,alice=2"}) {
    EXPECT_EQ(CertificateRoles::Parse("", users).status().code(),
              absl::StatusCode::kInvalidArgument)
        << users;
  }
  EXPECT_FALSE(CertificateRoles::Parse("a,b,a", "").ok());
  EXPECT_FALSE(CertificateRoles::Parse("a", "a=1500").ok());
  EXPECT_TRUE(CertificateRoles::Parse("", "").ok());
  EXPECT_TRUE(CertificateRoles::Parse(" , ,", ",").value().empty());
}

}  // namespace
}  // namespace lbrd::daemon
