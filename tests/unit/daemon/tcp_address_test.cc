#include "daemon/tcp_address.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace lbrd::daemon {
namespace {

TEST(TcpAddressTest, ReadsNumbersOnly) {
  const auto four = ParseTcpAddress("0.0.0.0:7431");
  ASSERT_TRUE(four.has_value());
  EXPECT_EQ(four->host, "0.0.0.0");
  EXPECT_EQ(four->port, 7431);
  EXPECT_FALSE(four->ipv6);
  EXPECT_FALSE(four->loopback());
  const auto six = ParseTcpAddress("[2001:db8::1]:0");
  ASSERT_TRUE(six.has_value());
  EXPECT_EQ(six->host, "2001:db8::1");
  EXPECT_TRUE(six->ipv6);
  EXPECT_FALSE(six->loopback());
  EXPECT_TRUE(ParseTcpAddress("127.9.9.9:1")->loopback());
  EXPECT_TRUE(ParseTcpAddress("[::1]:1")->loopback());
  for (const std::string& bad :
       {std::string(), std::string(":1"), std::string("1"), std::string("localhost:1"),
        std::string("1.2.3:1"), std::string("1.2.3.4:"), std::string("1.2.3.4:65536"),
        std::string("1.2.3.4:-1"), std::string("1.2.3.4:x"), std::string("::1:1"),
        std::string("[]:1"), std::string("[1.2.3.4]:1"), std::string("[::1:1"),
        std::string("1.2.3.4\0:1", 10)}) {
    EXPECT_FALSE(ParseTcpAddress(bad).has_value()) << bad;
  }
}

TEST(TcpAddressTest, ListensAndSaysWhereItCannot) {
  const auto listener = ListenOnTcp(*ParseTcpAddress("127.0.0.1:0"), 4);
  ASSERT_TRUE(listener.ok()) << listener.status();
  int listening = 0;
  socklen_t size = sizeof(listening);
  ASSERT_EQ(getsockopt(*listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size), 0);
  EXPECT_EQ(listening, 1);
  close(*listener);
  // An address of nobody (TEST-NET-3).
  const auto none = ListenOnTcp(*ParseTcpAddress("203.0.113.1:9"), 4);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("203.0.113.1 port 9"), std::string::npos);
}

}  // namespace
}  // namespace lbrd::daemon
