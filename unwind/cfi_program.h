// Runs call frame instructions: a CIE's, then an FDE's, giving the rules that hold at each of its
// function's addresses.
//
// Instructions: DWARF 5, 6.4.2, and the GNU ones of Linux Standard Base 5.0. Of registers beyond
// kCfiRegisters (vectors and the like) nothing is kept. Input is hostile: time is linear in the
// instructions' bytes, memory at most kMaxRemembered states of half a KiB.
//
// Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "unwind/cfi_parser.h"

namespace lbrd::unwind {

// As many as x86-64 has: 16 and the return address. AArch64 has 33.
inline constexpr size_t kCfiRegisters = 17;

// Where the caller's value of a register is. `value` and `expression` by kind.
struct CfiRegisterRule {
  enum class Kind : uint8_t {
    kUnspecified,   // by the ABI: the same for a callee-saved register
    kUndefined,     // nowhere
    kSame,          // still in it
    kAtOffset,      // stored at CFA + value
    kOffset,        // is CFA + value
    kRegister,      // in register number `value`
    kAtExpression,  // stored at what the expression gives
    kExpression,    // is what the expression gives
  };
  Kind kind = Kind::kUnspecified;
  int64_t value = 0;
  std::span<const std::byte> expression;
};

struct CfiRow {
  enum class CfaKind : uint8_t {
    kNone,        // not yet said
    kRegister,    // register `cfa_register` + cfa_offset
    kExpression,  // what cfa_expression gives
  };
  CfaKind cfa_kind = CfaKind::kNone;
  uint64_t cfa_register = 0;
  int64_t cfa_offset = 0;
  std::span<const std::byte> cfa_expression;
  CfiRegisterRule registers[kCfiRegisters];
};

class CfiProgram {
 public:
  static constexpr size_t kMaxRemembered = 32;

  // The rules that a CIE begins with. False: it has an instruction that is malformed or unknown.
  static bool Begin(const CfiSection& section, const Cie& cie, CfiRow* initial);

  // Calls visit(address, row) for each address of the function where rules change, the first of it
  // included, in order; `row` holds up to the next address or the function's end. `initial` is from
  // Begin(). Returns the address from which on the rules are not known, because of an instruction
  // that is malformed or unknown: the function's end when there is none.
  uint64_t Run(const CfiSection& section, const Cie& cie, const CfiRow& initial, const Fde& fde,
               absl::FunctionRef<void(uint64_t, const CfiRow&)> visit);
  // The row that holds at one address of the function; as Run() would visit it. nullptr: it is
  // behind an instruction that is malformed or unknown. Valid until the next call.
  const CfiRow* Find(const CfiSection& section, const Cie& cie, const CfiRow& initial,
                     const Fde& fde, uint64_t address);

 private:
  std::vector<CfiRow> remembered_;
  CfiRow found_;
};

}  // namespace lbrd::unwind
