#include "daemon/privileges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>

#include <fstream>
#include <set>
#include <sstream>

namespace lbrd::daemon {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::function<bool(int)> Having(std::set<int> numbers) {
  return [numbers](int number) { return numbers.count(number) != 0; };
}

TEST(PrivilegesTest, TheFourSuffice) {
  std::string degraded;
  EXPECT_TRUE(CheckPrivileges(
                  Having({CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_SYSLOG}), &degraded)
                  .ok());
  EXPECT_EQ(degraded, "");
}

TEST(PrivilegesTest, WhatIsMissingIsNamedWithWhatItIsFor) {
  std::string degraded;
  const absl::Status status = CheckPrivileges(Having({CAP_SYS_PTRACE}), &degraded);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("CAP_PERFMON (to open perf events"), HasSubstr("CAP_DAC_READ_SEARCH"),
                    HasSubstr("sudo lbrd"), Not(HasSubstr("CAP_SYS_PTRACE"))));
  EXPECT_THAT(degraded, HasSubstr("CAP_SYSLOG"));
}

TEST(PrivilegesTest, KernelSymbolsAreNotEssential) {
  std::string degraded;
  EXPECT_TRUE(
      CheckPrivileges(Having({CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_OVERRIDE}), &degraded).ok());
  EXPECT_THAT(degraded, AllOf(HasSubstr("CAP_SYSLOG"), HasSubstr("kernel functions")));
}

TEST(PrivilegesTest, TheUnitGivesExactlyThese) {
  std::ifstream file(LBRD_SOURCE_DIR "/systemd/lbrd.service");
  std::stringstream unit;
  unit << file.rdbuf();
  std::string names;
  for (const NeededCapability& capability : NeededCapabilities()) {
    names += (names.empty() ? "" : " ") + std::string(capability.name);
  }
  EXPECT_THAT(unit.str(), HasSubstr("\nCapabilityBoundingSet=" + names + "\n"));
  EXPECT_THAT(unit.str(), HasSubstr("\nAmbientCapabilities=" + names + "\n"));
}

}  // namespace
}  // namespace lbrd::daemon
