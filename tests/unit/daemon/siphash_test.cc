#include "daemon/siphash.h"

#include <gtest/gtest.h>

#include <string>

namespace lbrd::daemon {
namespace {

// Key 00 01 … 0f, as in the paper's appendix.
constexpr SipKey kKey{0x0706050403020100, 0x0f0e0d0c0b0a0908};

std::string Counting(size_t length) {
  std::string bytes;
  for (size_t i = 0; i < length; ++i) bytes.push_back(static_cast<char>(i));
  return bytes;
}

TEST(SipHasher, GivesThePapersTestVector) {
  SipHasher hasher(kKey);
  hasher.AddBytes(Counting(15));
  EXPECT_EQ(hasher.Finish(), 0xa129ca6149be45e5);
}

TEST(SipHasher, GivesTheVectorOfNothing) {
  EXPECT_EQ(SipHasher(kKey).Finish(), 0x726fdb47dd0e0e31);
}

TEST(SipHasher, IntegersAreTheirBytesWhereverTheyStand) {
  for (size_t before = 0; before < 9; ++before) {
    SipHasher by_bytes(kKey);
    by_bytes.AddBytes(Counting(before) + Counting(8));
    SipHasher by_int(kKey);
    by_int.AddBytes(Counting(before));
    by_int.AddInt(0x0706050403020100);
    EXPECT_EQ(by_int.Finish(), by_bytes.Finish()) << before;
  }
}

TEST(SipHasher, TextsDoNotRunIntoEachOther) {
  SipHasher a(kKey);
  a.AddText("ab");
  a.AddText("c");
  SipHasher b(kKey);
  b.AddText("a");
  b.AddText("bc");
  EXPECT_NE(a.Finish(), b.Finish());
}

}  // namespace
}  // namespace lbrd::daemon
