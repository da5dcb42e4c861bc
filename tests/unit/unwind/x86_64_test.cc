#include "unwind/x86_64.h"

#include <gtest/gtest.h>

#include <vector>

namespace lbrd::unwind::x86_64 {
namespace {

bool Ends(std::vector<uint8_t> code) { return EndsFunction(std::as_bytes(std::span(code))); }

TEST(EndsFunctionTest, AtReturns) {
  EXPECT_TRUE(Ends({0xc3}));
  EXPECT_TRUE(Ends({0xf3, 0xc3}));
  EXPECT_TRUE(Ends({0xc2, 0x08, 0x00}));
}

TEST(EndsFunctionTest, AtPopsBeforeAReturnOrATailCall) {
  EXPECT_TRUE(Ends({0x5b, 0x5d, 0x41, 0x5c, 0x41, 0x5f, 0xc3}));
  EXPECT_TRUE(Ends({0x5d, 0xe9, 1, 2, 3, 4}));
  EXPECT_TRUE(Ends({0x41, 0x5e, 0xeb, 5}));
}

TEST(EndsFunctionTest, NotWhereTheFunctionMayGoOn) {
  EXPECT_FALSE(Ends({}));
  EXPECT_FALSE(Ends({0x41}));
  EXPECT_FALSE(Ends({0x5b, 0x5d})) << "what follows is not known";
  EXPECT_FALSE(Ends({0xe9, 1, 2, 3, 4})) << "a jump within it, perhaps";
  EXPECT_FALSE(Ends({0x5b, 0x48, 0x89, 0xe5, 0xc3}));
  EXPECT_FALSE(Ends({0xc9, 0xc3})) << "leave: the frame pointer is not taken back yet";
}

}  // namespace
}  // namespace lbrd::unwind::x86_64
