// DWARF expressions as call frame information uses them: a machine with a stack of 64-bit words.
//
// Operations: DWARF 5, 2.5.1, less those that call frame information must not use (6.4.2) and those
// that need what is not recorded (threads, objects, types). Input is hostile: at most kMaxSteps
// operations over at most kMaxStack words.
//
// Thread rules: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/functional/function_ref.h"

namespace lbrd::unwind {

enum class ExpressionStatus : uint8_t {
  kOk,
  kUnsupported,  // an operation that is not done here
  kMalformed,    // cut off, stack empty or too deep, division by zero, no end
  kNoRegister,   // a register whose value is not known
  kNoMemory,     // memory that cannot be read
};

struct ExpressionInput {
  // The value of a DWARF register; nullopt: not known.
  absl::FunctionRef<std::optional<uint64_t>(uint64_t reg)> get_register;
  // The `size` (1 to 8) bytes at an address, zero-extended; nullopt: they cannot be read.
  absl::FunctionRef<std::optional<uint64_t>(uint64_t address, size_t size)> read_memory;
};

inline constexpr size_t kMaxExpressionStack = 64;
inline constexpr size_t kMaxExpressionSteps = 1024;

// `initial` stands on the stack at first: the CFA for a register's expression, nothing for the
// CFA's own. *result is what is on top at the end.
ExpressionStatus EvaluateExpression(std::span<const std::byte> expression,
                                    std::optional<uint64_t> initial, const ExpressionInput& input,
                                    uint64_t* result);

}  // namespace lbrd::unwind
