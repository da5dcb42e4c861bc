#include "daemon/peer_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/authorization.h"

namespace lbrd::daemon {
namespace {

constexpr int kFirst = 400;
constexpr int kEnd = 1000;

class PeerTableTest : public ::testing::Test {
 protected:
  // A connection's number, or an error. The other end is closed: nobody speaks here.
  absl::StatusOr<int> Connect(uid_t uid, bool trusted = false) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    close(ends[1]);
    const auto number = peers_.Adopt(ends[0], {.uid = uid}, trusted, now_);
    close(ends[0]);
    return number;
  }
  uid_t UidOf(int number) const {
    const auto peer = peers_.Find(absl::StrCat("fd:", number));
    return peer == nullptr ? static_cast<uid_t>(-1) : peer->uid;
  }

  PeerTable peers_{kFirst, kEnd};
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(PeerTableTest, KnowsConnectionsByTheirNumbers) {
  const int one = *Connect(1500);
  const int two = *Connect(1501);
  EXPECT_GE(one, kFirst);
  EXPECT_NE(one, two);
  EXPECT_EQ(UidOf(one), 1500u);
  EXPECT_EQ(UidOf(two), 1501u);
  for (const char* name : {"", "fd:", "fd:x", "fd:1", "unix:", "ipv4:1.2.3.4:5", "fd:-1"}) {
    EXPECT_EQ(peers_.Find(name), nullptr) << name;
  }
  close(one);
  close(two);
}

TEST_F(PeerTableTest, ANumberRestsBeforeAnotherPeerGetsIt) {
  // More connections than the region has numbers, as fast as can be: each is closed at once, and
  // none gets a number that stood for another peer in the last kRetirement.
  std::map<int, absl::Time> closed;
  for (int i = 0; i < 5000; ++i) {
    now_ += absl::Milliseconds(10);
    const auto number = Connect(static_cast<uid_t>(2000 + i));
    ASSERT_TRUE(number.ok()) << number.status();
    if (const auto last = closed.find(*number); last != closed.end()) {
      EXPECT_GT(now_ - last->second, PeerTable::kRetirement);
    }
    EXPECT_EQ(UidOf(*number), static_cast<uid_t>(2000 + i));
    close(*number);
    closed[*number] = now_;
  }
}

TEST_F(PeerTableTest, RefusesRatherThanUsesANumberTooSoon) {
  int taken = 0;
  while (true) {
    const auto number = Connect(1500);
    if (!number.ok()) break;
    close(*number);
    ASSERT_LE(++taken, kEnd - kFirst);
  }
  EXPECT_EQ(taken, kEnd - kFirst);
  now_ += PeerTable::kRetirement;
  EXPECT_FALSE(Connect(1500).ok());  // the last sweep saw them closed just now
  now_ += absl::Milliseconds(1);
  EXPECT_TRUE(Connect(1500).ok());
}

TEST_F(PeerTableTest, AnotherDescriptorAtTheNumberIsNotTheConnection) {
  const int number = *Connect(1500);
  close(number);
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(fcntl(file, F_DUPFD_CLOEXEC, number), number);
  ASSERT_TRUE(Connect(1501).ok());  // sweeps
  EXPECT_EQ(UidOf(number), static_cast<uid_t>(-1));
  close(number);
  close(file);
}

TEST_F(PeerTableTest, BoundsConnectionsAndKeepsSomeForAdmins) {
  std::vector<int> open;
  const auto connect = [&](uid_t uid, bool trusted) {
    const auto number = Connect(uid, trusted);
    if (number.ok()) open.push_back(*number);
    return number.status();
  };
  for (size_t i = 0; i < PeerTable::kMaxConnectionsOfUser; ++i) {
    ASSERT_TRUE(connect(1500, false).ok());
  }
  EXPECT_EQ(RuleOf(connect(1500, false)), rule::kQuotaConnections);
  uid_t uid = 2000;
  while (open.size() < PeerTable::kMaxConnections - PeerTable::kReserved) {
    ASSERT_TRUE(connect(uid++, false).ok());
  }
  EXPECT_EQ(RuleOf(connect(uid, false)), rule::kQuotaConnections);
  for (size_t i = 0; i < PeerTable::kReserved; ++i) {
    ASSERT_TRUE(connect(0, true).ok());
  }
  EXPECT_EQ(RuleOf(connect(0, true)), rule::kQuotaConnections);
  for (const int number : open) close(number);
}

}  // namespace
}  // namespace lbrd::daemon
