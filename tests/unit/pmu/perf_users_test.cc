#include "pmu/perf_users.h"

#include <gtest/gtest.h>

#include "fake_kernel.h"

namespace lbrd::pmu {
namespace {

constexpr char kRing[] =
    "7f0000000000-7f0000081000 rw-s 00000000 00:0e 11 anon_inode:[perf_event]\n";
constexpr char kCode[] = "00400000-00500000 r-xp 00000000 08:01 99 /usr/bin/perf_event\n";

class PerfUsersTest : public ::testing::Test {
 protected:
  PerfUsersTest() {
    kernel_.files["/proc/self/stat"] = "50 (lbrd) S 1";
    kernel_.folders["/proc"] = {1, 50, 60, 70};
    kernel_.files["/proc/1/maps"] = kCode;
    kernel_.files["/proc/50/maps"] = kRing;  // ourselves
    kernel_.files["/proc/60/maps"] = std::string(kCode) + kRing + kRing;
    kernel_.files["/proc/60/comm"] = "perf\n";
    kernel_.files["/proc/70/maps"] = kRing;
  }
  FakeKernel kernel_;
};

TEST_F(PerfUsersTest, AreThoseWithRingsButNotOurselves) {
  const PerfUsers found = FindPerfUsers(kernel_, 1000);
  ASSERT_EQ(found.users.size(), 2u);
  EXPECT_EQ(found.users[0].pid, 60);
  EXPECT_EQ(found.users[0].comm, "perf");
  EXPECT_EQ(found.users[0].rings, 2u);
  EXPECT_EQ(found.users[1].pid, 70);
  EXPECT_EQ(found.users[1].comm, "?");  // gone meanwhile
  EXPECT_TRUE(found.all_seen);
}

TEST_F(PerfUsersTest, SaysThatItCouldNotLookAtAll) {
  struct Ticking : FakeKernel {
    uint64_t Now() override { return now += 600; }
  } slow;
  slow.files = kernel_.files;
  slow.folders = kernel_.folders;
  const PerfUsers found = FindPerfUsers(slow, 1000);
  EXPECT_FALSE(found.all_seen);
  EXPECT_LT(found.users.size(), 2u);
  slow.folders.clear();
  EXPECT_FALSE(FindPerfUsers(slow, 1000).all_seen);
}

}  // namespace
}  // namespace lbrd::pmu
