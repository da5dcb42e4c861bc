// What of x86-64's instructions tells of calls: whether a branch that the LBR recorded can have
// been a call, and whether a function can have left for another one by a jump. Apart, so that
// another architecture can stand beside it.
//
// Encodings: Intel SDM, volume 2, "CALL", "JMP", "Jcc" and chapter 2 (prefixes, ModRM, SIB).
// Thread rules: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lbrd::unwind::x86_64 {

// No instruction is longer.
inline constexpr size_t kMaxInstructionBytes = 15;

struct CallInstruction {
  uint8_t size = 0;  // bytes, prefixes included: what it returns to stands so much further on
  bool direct = false;
  int32_t distance = 0;  // of a direct one: from what follows it to what it calls
};

// The call that `code` begins with; nullopt: another instruction, or too few bytes.
std::optional<CallInstruction> DecodeCall(std::span<const std::byte> code);

// Where a function may go by jumps.
struct Jumps {
  std::vector<uint64_t> targets;  // of direct ones that lead out of it
  bool computed = false;          // it has one whose target is in a register or in memory
};

// The jumps of the code at `address`, whose bytes are `code`. Looks at every byte as if an
// instruction began there: it may see a jump where there is none, and overlooks none.
void FindJumps(std::span<const std::byte> code, uint64_t address, Jumps* out);

}  // namespace lbrd::unwind::x86_64
