#include "daemon/broker_protocol.h"

#include <gtest/gtest.h>

#include <random>

namespace lbrd::daemon {
namespace {

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(BrokerProtocolTest, ARequestComesAsItWasSent) {
  const std::string attr(136, 'a');
  const std::string message = EncodeBrokerRequest(
      {.call = BrokerCall::kOpenEvent, .id = 7, .pid = -1, .cpu = 3, .flags = 4, .payload = attr});
  const absl::StatusOr<BrokerRequest> request = ParseBrokerRequest(Bytes(message));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->call, BrokerCall::kOpenEvent);
  EXPECT_EQ(request->id, 7u);
  EXPECT_EQ(request->pid, -1);
  EXPECT_EQ(request->cpu, 3);
  EXPECT_EQ(request->flags, 4u);
  EXPECT_EQ(request->payload, attr);
}

TEST(BrokerProtocolTest, AnAnswerComesAsItWasSent) {
  const std::string message = EncodeBrokerAnswer({.id = 9, .error = 13, .payload = "/bin/true"});
  const absl::StatusOr<BrokerAnswer> answer = ParseBrokerAnswer(Bytes(message));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->id, 9u);
  EXPECT_EQ(answer->error, 13);
  EXPECT_EQ(answer->payload, "/bin/true");
  EXPECT_FALSE(ParseBrokerRequest(Bytes(message)).ok());
}

TEST(BrokerProtocolTest, WhatIsCutOrTooLongIsRefused) {
  const std::string message =
      EncodeBrokerRequest({.call = BrokerCall::kOpenBinary, .pid = 5, .payload = "/bin/true"});
  for (size_t bytes = 0; bytes < message.size(); ++bytes) {
    EXPECT_FALSE(ParseBrokerRequest(Bytes(message.substr(0, bytes))).ok()) << bytes;
  }
  EXPECT_TRUE(ParseBrokerRequest(Bytes(message)).ok());
  EXPECT_FALSE(ParseBrokerRequest(Bytes(message + "x")).ok());
  EXPECT_FALSE(ParseBrokerRequest(Bytes(std::string(kMaxBrokerMessage + 1, '\0'))).ok());
}

TEST(BrokerProtocolTest, FieldsThatARequestHasNotAreRefused) {
  EXPECT_TRUE(
      ParseBrokerRequest(Bytes(EncodeBrokerRequest({.call = BrokerCall::kOpenMaps, .pid = 5})))
          .ok());
  const BrokerRequest wrong[] = {
      {.call = BrokerCall::kOpenMaps, .pid = 5, .cpu = 1},
      {.call = BrokerCall::kOpenMaps, .pid = 5, .flags = 1},
      {.call = BrokerCall::kOpenMaps, .pid = 5, .payload = "/etc/shadow"},
      {.call = BrokerCall::kOpenBinary, .pid = 5},
      {.call = BrokerCall::kOpenKernelSymbols, .pid = 5},
      {.call = BrokerCall::kOpenConfig, .payload = "/etc/shadow"},
      {.call = static_cast<BrokerCall>(0)},
      {.call = static_cast<BrokerCall>(kLastBrokerCall + 1)},
  };
  for (const BrokerRequest& request : wrong) {
    EXPECT_FALSE(ParseBrokerRequest(Bytes(EncodeBrokerRequest(request))).ok())
        << BrokerCallName(request.call);
  }
}

TEST(BrokerProtocolTest, EveryBitOfTheHeaderIsLookedAt) {
  const std::string good = EncodeBrokerRequest({.call = BrokerCall::kReleaseRing, .id = 1});
  ASSERT_TRUE(ParseBrokerRequest(Bytes(good)).ok());
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const absl::StatusOr<BrokerRequest> request = ParseBrokerRequest(Bytes(flipped));
    // Another id is as good; so is, of the calls, one that has no fields either.
    if (request.ok()) {
      EXPECT_TRUE(request->id != 1 || request->call != BrokerCall::kReleaseRing) << bit;
      EXPECT_EQ(request->pid, 0);
      EXPECT_EQ(request->flags, 0u);
    }
  }
}

TEST(BrokerProtocolTest, RandomBytesAreNoRequest) {
  std::mt19937 random(1);
  for (int i = 0; i < 10'000; ++i) {
    std::string message(random() % (kMaxBrokerMessage + 10), '\0');
    for (char& byte : message) byte = static_cast<char>(random());
    EXPECT_FALSE(ParseBrokerRequest(Bytes(message)).ok());
    EXPECT_FALSE(ParseBrokerAnswer(Bytes(message)).ok());
  }
}

}  // namespace
}  // namespace lbrd::daemon
