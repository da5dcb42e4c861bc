// How to leave every function of one binary: its call frame information, compiled to a sorted
// table.
//
// Layout. Rows stand in address order. A row is the low 16 bits of the address from which it holds
// (relative to the first code's 64 KiB page) and the index of its rule: 4 bytes. Pages of 64 KiB
// have the index of their first row: 4 bytes a page. Rules are few (a binary has some hundreds or
// thousands of distinct ones) and stand once each: 16 bytes. Rules that 16 bytes do not hold are
// full rules, with 16 bytes for each register that has one.
//
// Look-up is one binary search among the rows of a page, in 2-byte keys.
//
// Bounds: kMaxRows rows (64 MiB), kMaxRules rules (1 MiB), kMaxSpan of addresses. Code that is
// beyond them has rule kUnsupported.
//
// Thread rules: immutable once built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "unwind/cfi_program.h"
#include "unwind/x86_64.h"

namespace lbrd::unwind {

struct UnwindRule {
  enum Kind : uint8_t {
    kNone,          // no call frame information
    kUnsupported,   // information that is not understood here
    kOffsets,       // CFA = cfa_register + cfa_offset; the rest is stored around it
    kPlt,           // CFA = rsp + 8, and 8 more from byte `plt_pushed_from` of 16 on
    kFull,          // full rule number `full`, or the one to be asked for by its address
    kSignalReturn,  // registers are where the kernel put them for a signal handler
  };
  enum Flag : uint8_t {
    kSignalFrame = 1,  // the caller was interrupted: its address is exact
    kThreadStart = 2,  // nobody is returned to
    kGuess = 4,        // by the look of the code; not from call frame information
    kNoFile = 8,       // of kGuess: the binary could not be read
  };
  // Of `full`, where there is no table that numbers them: RuleTables::FindFull() has it.
  static constexpr uint32_t kByAddress = UINT32_MAX;
  // Where a register is not: it is as before.
  static constexpr int8_t kSame = 0;

  Kind kind = kNone;
  uint8_t flags = 0;
  union {
    uint8_t cfa_register = 0;  // DWARF's number
    uint8_t plt_pushed_from;
  };
  int8_t return_address = -1;  // in words of 8 bytes from the CFA, as are the others
  union {
    int32_t cfa_offset = 0;
    uint32_t full;
  };
  int8_t saved[x86_64::kCalleeSaved] = {};  // in the order of x86_64::kCalleeSavedRegisters
  uint8_t unused[2] = {};

  bool operator==(const UnwindRule& other) const;
};
static_assert(sizeof(UnwindRule) == 16);

// A rule that needs more room; views into the table.
struct FullRule {
  struct Register {
    uint8_t number = 0;
    CfiRegisterRule::Kind kind = CfiRegisterRule::Kind::kUnspecified;
    uint16_t expression_size = 0;
    uint32_t expression = 0;  // offset
    int64_t value = 0;
  };
  static_assert(sizeof(Register) == 16);

  bool cfa_is_expression = false;
  uint8_t cfa_register = 0;
  int64_t cfa_offset = 0;
  std::span<const std::byte> cfa_expression;
  std::span<const Register> registers;
};

class UnwindRules {
 public:
  static constexpr size_t kMaxRows = 16u << 20;
  static constexpr size_t kMaxRules = 65536;
  static constexpr uint64_t kMaxSpan = uint64_t{4} << 30;
  static constexpr uint64_t kPageBytes = 65536;

  // The rule at an address in the file's own terms.
  const UnwindRule& Find(uint64_t address) const;
  FullRule Full(uint32_t index) const;
  std::span<const std::byte> Expression(const FullRule::Register& reg) const;

  size_t rows() const { return low_.size(); }
  size_t rules() const { return rules_.size(); }
  size_t full_rules() const { return full_.size(); }
  // Memory taken.
  size_t bytes() const;

  // Calls visit(address, rule) for each row.
  template <typename Visit>
  void ForEachRow(Visit visit) const {
    for (size_t page = 0; page + 1 < first_row_.size(); ++page) {
      for (uint32_t i = first_row_[page]; i < first_row_[page + 1]; ++i) {
        visit(base_ + page * kPageBytes + low_[i], rules_[rule_[i]]);
      }
    }
  }

 private:
  friend class UnwindRulesBuilder;

  struct StoredFull {
    int64_t cfa_offset = 0;
    uint32_t cfa_expression = 0;
    uint16_t cfa_expression_size = 0;
    uint8_t cfa_register = 0;
    bool cfa_is_expression = false;
    uint32_t first_register = 0;
    uint32_t register_count = 0;
  };

  uint64_t base_ = 0;
  std::vector<uint32_t> first_row_;  // of each page, and at last how many there are
  std::vector<uint16_t> low_;
  std::vector<uint16_t> rule_;
  std::vector<UnwindRule> rules_;
  std::vector<StoredFull> full_;
  std::vector<FullRule::Register> full_registers_;
  std::vector<std::byte> expressions_;
};

}  // namespace lbrd::unwind
