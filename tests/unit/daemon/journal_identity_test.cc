#include "daemon/journal_identity.h"

#include <gtest/gtest.h>

#include <string>

namespace lbrd::daemon {
namespace {

Identity KeptAndLeft(const Identity& who) {
  journal::SessionRecord record;
  KeepIdentity(who, &record);
  journal::SessionRecord left;
  EXPECT_TRUE(left.ParseFromString(record.SerializeAsString()));
  return IdentityLeft(left);
}

TEST(JournalIdentityTest, AProcessOfThisMachineStaysWhoItIs) {
  const Identity left =
      KeptAndLeft({.role = Role::kUser, .uid = 1500, .pid = 4711, .comm = "a \xff\n"});
  EXPECT_EQ(left.role, Role::kUser);
  EXPECT_EQ(left.uid, 1500u);
  EXPECT_EQ(left.pid, 4711);
  EXPECT_EQ(left.comm, "a \xff\n");
  EXPECT_EQ(left.certificate, "");
}

TEST(JournalIdentityTest, TheHolderOfACertificateKeepsItsName) {
  const Identity left = KeptAndLeft({.role = Role::kAdmin, .uid = 0, .certificate = "build-7"});
  EXPECT_EQ(left.role, Role::kAdmin);
  EXPECT_EQ(left.uid, 0u);
  EXPECT_EQ(left.certificate, "build-7");
}

TEST(JournalIdentityTest, NamesAreBounded) {
  const Identity kept = KeptAndLeft(
      {.uid = 1, .comm = std::string(4000, 'c'), .certificate = std::string(4000, 'n')});
  EXPECT_EQ(kept.comm, std::string(kMaxCommBytes, 'c'));
  EXPECT_EQ(kept.certificate, std::string(kMaxCertificateBytes, 'n'));
  journal::SessionRecord hostile;
  hostile.set_comm(std::string(4000, 'c'));
  hostile.set_certificate(std::string(4000, 'n'));
  EXPECT_EQ(IdentityLeft(hostile).comm.size(), kMaxCommBytes);
  EXPECT_EQ(IdentityLeft(hostile).certificate.size(), kMaxCertificateBytes);
}

}  // namespace
}  // namespace lbrd::daemon
