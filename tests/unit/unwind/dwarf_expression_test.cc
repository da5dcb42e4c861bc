#include "unwind/dwarf_expression.h"

#include <initializer_list>
#include <map>
#include <vector>

#include "gtest/gtest.h"

namespace lbrd::unwind {
namespace {

class DwarfExpressionTest : public testing::Test {
 protected:
  ExpressionStatus Evaluate(std::initializer_list<int> code,
                            std::optional<uint64_t> initial = std::nullopt) {
    std::vector<std::byte> bytes;
    for (const int byte : code) bytes.push_back(static_cast<std::byte>(byte));
    const auto get_register = [&](uint64_t reg) -> std::optional<uint64_t> {
      const auto found = registers_.find(reg);
      return found == registers_.end() ? std::nullopt : std::optional(found->second);
    };
    const auto read_memory = [&](uint64_t address, size_t size) -> std::optional<uint64_t> {
      const auto found = memory_.find(address);
      if (found == memory_.end()) return std::nullopt;
      return size == 8 ? found->second : found->second & ((uint64_t{1} << (8 * size)) - 1);
    };
    return EvaluateExpression(bytes, initial, {get_register, read_memory}, &result_);
  }
  // The value of an expression that has one.
  uint64_t Value(std::initializer_list<int> code) {
    EXPECT_EQ(Evaluate(code), ExpressionStatus::kOk);
    return result_;
  }

  std::map<uint64_t, uint64_t> registers_ = {{0, 7}, {7, 0x7000}, {16, 0x401239}, {40, 11}};
  std::map<uint64_t, uint64_t> memory_ = {{0x7010, 0x1122334455667788}};
  uint64_t result_ = 0;
};

TEST_F(DwarfExpressionTest, Constants) {
  EXPECT_EQ(Value({0x30}), 0u);
  EXPECT_EQ(Value({0x4f}), 31u);
  EXPECT_EQ(Value({0x03, 1, 2, 3, 4, 5, 6, 7, 8}), 0x0807060504030201u);
  EXPECT_EQ(Value({0x08, 0xff}), 255u);
  EXPECT_EQ(Value({0x09, 0xff}), ~uint64_t{0});
  EXPECT_EQ(Value({0x0a, 0xfe, 0xff}), 0xfffeu);
  EXPECT_EQ(Value({0x0b, 0xfe, 0xff}), ~uint64_t{1});
  EXPECT_EQ(Value({0x0c, 0xfe, 0xff, 0xff, 0xff}), 0xfffffffeu);
  EXPECT_EQ(Value({0x0d, 0xfe, 0xff, 0xff, 0xff}), ~uint64_t{1});
  EXPECT_EQ(Value({0x0e, 1, 0, 0, 0, 0, 0, 0, 0x80}), 0x8000000000000001u);
  EXPECT_EQ(Value({0x0f, 1, 0, 0, 0, 0, 0, 0, 0x80}), 0x8000000000000001u);
  EXPECT_EQ(Value({0x10, 0x80, 0x01}), 128u);
  EXPECT_EQ(Value({0x11, 0x7f}), ~uint64_t{0});
}

TEST_F(DwarfExpressionTest, RegistersAndMemory) {
  EXPECT_EQ(Value({0x77, 0x08}), 0x7008u);
  EXPECT_EQ(Value({0x70, 0x7f}), 6u);
  EXPECT_EQ(Value({0x92, 40, 1}), 12u);
  EXPECT_EQ(Value({0x77, 0x10, 0x06}), 0x1122334455667788u);
  EXPECT_EQ(Value({0x77, 0x10, 0x94, 2}), 0x7788u);
  EXPECT_EQ(Evaluate({0x71, 0}), ExpressionStatus::kNoRegister);
  EXPECT_EQ(Evaluate({0x77, 0, 0x06}), ExpressionStatus::kNoMemory);
  EXPECT_EQ(Evaluate({0x77, 0x10, 0x94, 9}), ExpressionStatus::kMalformed);
  EXPECT_EQ(Evaluate({0x77, 0x10, 0x94, 0}), ExpressionStatus::kMalformed);
}

TEST_F(DwarfExpressionTest, Stack) {
  EXPECT_EQ(Value({0x31, 0x12, 0x22}), 2u);                               // dup plus
  EXPECT_EQ(Value({0x31, 0x32, 0x13}), 1u);                               // drop
  EXPECT_EQ(Value({0x31, 0x32, 0x14}), 1u);                               // over
  EXPECT_EQ(Value({0x31, 0x32, 0x33, 0x15, 2}), 1u);                      // pick
  EXPECT_EQ(Value({0x35, 0x32, 0x16, 0x1c}), static_cast<uint64_t>(-3));  // swap minus
  // 1 2 3 rot: 3 is third, 2 on top.
  EXPECT_EQ(Value({0x31, 0x32, 0x33, 0x17}), 2u);
  EXPECT_EQ(Value({0x31, 0x32, 0x33, 0x17, 0x13}), 1u);
  EXPECT_EQ(Value({0x31, 0x32, 0x33, 0x17, 0x13, 0x13}), 3u);
}

TEST_F(DwarfExpressionTest, Arithmetic) {
  const int minus_7[] = {0x09, 0xf9};
  EXPECT_EQ(Value({0x09, 0xf9, 0x19}), 7u);                                           // abs
  EXPECT_EQ(Value({0x3f, 0x3c, 0x1a}), 12u);                                          // and
  EXPECT_EQ(Value({minus_7[0], minus_7[1], 0x32, 0x1b}), static_cast<uint64_t>(-3));  // div
  EXPECT_EQ(Value({0x3f, 0x34, 0x1d}), 3u);                                           // mod
  EXPECT_EQ(Value({0x33, 0x34, 0x1e}), 12u);                                          // mul
  EXPECT_EQ(Value({0x33, 0x1f}), static_cast<uint64_t>(-3));                          // neg
  EXPECT_EQ(Value({0x30, 0x20}), ~uint64_t{0});                                       // not
  EXPECT_EQ(Value({0x31, 0x34, 0x21}), 5u);                                           // or
  EXPECT_EQ(Value({0x31, 0x23, 0x80, 0x01}), 129u);                                   // plus_uconst
  EXPECT_EQ(Value({0x31, 0x34, 0x24}), 16u);                                          // shl
  EXPECT_EQ(Value({0x31, 0x08, 64, 0x24}), 0u);
  EXPECT_EQ(Value({0x09, 0xf0, 0x32, 0x25}), 0x3ffffffffffffffcu);        // shr
  EXPECT_EQ(Value({0x09, 0xf0, 0x32, 0x26}), static_cast<uint64_t>(-4));  // shra
  EXPECT_EQ(Value({0x09, 0xf0, 0x08, 200, 0x26}), ~uint64_t{0});
  EXPECT_EQ(Value({0x33, 0x35, 0x27}), 6u);  // xor
  // The one quotient that does not fit.
  EXPECT_EQ(Value({0x0e, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x09, 0xff, 0x1b}), uint64_t{1} << 63);
  EXPECT_EQ(Evaluate({0x31, 0x30, 0x1b}), ExpressionStatus::kMalformed);
  EXPECT_EQ(Evaluate({0x31, 0x30, 0x1d}), ExpressionStatus::kMalformed);
}

TEST_F(DwarfExpressionTest, ComparisonsAreSigned) {
  const struct {
    int opcode;
    uint64_t less, equal, greater;  // of left and right
  } kCases[] = {{0x29, 0, 1, 0}, {0x2a, 0, 1, 1}, {0x2b, 0, 0, 1},
                {0x2c, 1, 1, 0}, {0x2d, 1, 0, 0}, {0x2e, 1, 0, 1}};
  for (const auto& c : kCases) {
    EXPECT_EQ(Value({0x09, 0xff, 0x31, c.opcode}), c.less) << c.opcode;
    EXPECT_EQ(Value({0x31, 0x31, c.opcode}), c.equal) << c.opcode;
    EXPECT_EQ(Value({0x31, 0x09, 0xff, c.opcode}), c.greater) << c.opcode;
  }
}

TEST_F(DwarfExpressionTest, Branches) {
  EXPECT_EQ(Value({0x31, 0x2f, 1, 0, 0x32, 0x96}), 1u);  // skip over lit2
  EXPECT_EQ(Value({0x31, 0x31, 0x28, 1, 0, 0x32}), 1u);  // taken
  EXPECT_EQ(Value({0x31, 0x30, 0x28, 1, 0, 0x32}), 2u);  // not taken
  // Counts down from 5: lit5; lit1 minus dup bra -6
  EXPECT_EQ(Value({0x35, 0x31, 0x1c, 0x12, 0x28, 0xfa, 0xff}), 0u);
  EXPECT_EQ(Evaluate({0x31, 0x2f, 0xfd, 0xff}), ExpressionStatus::kMalformed) << "for ever";
  EXPECT_EQ(Evaluate({0x31, 0x2f, 0x01, 0x00}), ExpressionStatus::kMalformed) << "beyond the end";
  EXPECT_EQ(Evaluate({0x31, 0x2f, 0x00, 0x80}), ExpressionStatus::kMalformed) << "before the start";
}

TEST_F(DwarfExpressionTest, ThePltsExpression) {
  // breg7 8; breg16 0; lit15; and; lit11; ge; lit3; shl; plus
  const auto at = [&](uint64_t ip) {
    registers_[16] = ip;
    return Value({0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22});
  };
  EXPECT_EQ(at(0x40100a), 0x7008u);
  EXPECT_EQ(at(0x40100b), 0x7010u);
}

TEST_F(DwarfExpressionTest, BeginsWithTheCfaWhereThereIsOne) {
  EXPECT_EQ(Evaluate({0x23, 8}, 0x100), ExpressionStatus::kOk);
  EXPECT_EQ(result_, 0x108u);
  EXPECT_EQ(Evaluate({}, 0x100), ExpressionStatus::kOk);
  EXPECT_EQ(result_, 0x100u);
}

TEST_F(DwarfExpressionTest, HostileCodeEndsClearly) {
  EXPECT_EQ(Evaluate({}), ExpressionStatus::kMalformed);
  EXPECT_EQ(Evaluate({0x22}), ExpressionStatus::kMalformed);
  EXPECT_EQ(Evaluate({0x31, 0x22}), ExpressionStatus::kMalformed);
  EXPECT_EQ(Evaluate({0x31, 0x15, 1}), ExpressionStatus::kMalformed);
  EXPECT_EQ(Evaluate({0x0e, 1, 2}), ExpressionStatus::kMalformed) << "cut off";
  EXPECT_EQ(Evaluate({0x10, 0x80}), ExpressionStatus::kMalformed) << "cut off";
  EXPECT_EQ(Evaluate({0x31, 0x12, 0x2f, 0xfc, 0xff}), ExpressionStatus::kMalformed) << "overflow";
  for (const int unsupported : {0x00, 0x18, 0x50, 0x90, 0x93, 0x97, 0xe0, 0xf1, 0xff}) {
    EXPECT_EQ(Evaluate({0x31, unsupported}), ExpressionStatus::kUnsupported) << unsupported;
  }
}

}  // namespace
}  // namespace lbrd::unwind
