#include "unwind/x86_64_call.h"

#include <cstring>

namespace lbrd::unwind::x86_64 {
namespace {

constexpr size_t kMaxPrefixes = 5;

uint8_t At(std::span<const std::byte> code, size_t i) { return static_cast<uint8_t>(code[i]); }

int32_t Distance(std::span<const std::byte> code, size_t at) {
  int32_t distance;
  std::memcpy(&distance, code.data() + at, sizeof(distance));
  return distance;
}

// Those that stand before calls in real code: data16 and addr32 (the linker's padding of relaxed
// and thread-local calls), notrack, rep and bnd, segments (retpolines' padding).
bool IsLegacyPrefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

// Bytes of ModRM, SIB and displacement from `at` on; 0: there are too few.
size_t OperandBytes(std::span<const std::byte> code, size_t at) {
  const uint8_t mode = At(code, at) >> 6;
  const uint8_t rm = At(code, at) & 7;
  size_t size = 1;
  if (mode != 3 && rm == 4) {
    if (code.size() < at + 2) return 0;
    ++size;
    if (mode == 0 && (At(code, at + 1) & 7) == 5) size += 4;
  }
  if (mode == 0 && rm == 5) size += 4;
  if (mode == 1) size += 1;
  if (mode == 2) size += 4;
  return code.size() >= at + size ? size : 0;
}

}  // namespace

std::optional<CallInstruction> DecodeCall(std::span<const std::byte> code) {
  size_t at = 0;
  while (at < code.size() && at < kMaxPrefixes && IsLegacyPrefix(At(code, at))) ++at;
  if (at < code.size() && At(code, at) >> 4 == 4) ++at;  // REX
  if (at + 1 >= code.size()) return std::nullopt;
  if (At(code, at) == 0xe8) {
    if (code.size() < at + 5) return std::nullopt;
    return CallInstruction{static_cast<uint8_t>(at + 5), true, Distance(code, at + 1)};
  }
  // ff /2: through a register or memory. (ff /3 calls into another segment, which no program does.)
  if (At(code, at) != 0xff || (At(code, at + 1) >> 3 & 7) != 2) return std::nullopt;
  const size_t operand = OperandBytes(code, at + 1);
  if (operand == 0) return std::nullopt;
  return CallInstruction{static_cast<uint8_t>(at + 1 + operand), false, 0};
}

void FindJumps(std::span<const std::byte> code, uint64_t address, Jumps* out) {
  out->targets.clear();
  out->computed = false;
  const auto add = [&](size_t next, int64_t distance) {
    const uint64_t target = address + next + static_cast<uint64_t>(distance);
    if (target - address >= code.size()) out->targets.push_back(target);
  };
  for (size_t i = 0; i + 1 < code.size(); ++i) {
    const uint8_t byte = At(code, i);
    const uint8_t next = At(code, i + 1);
    // jmp rel8, jcc rel8; jmp rel32; jcc rel32.
    if (byte == 0xeb || byte >> 4 == 7) add(i + 2, static_cast<int8_t>(next));
    if (byte == 0xe9 && i + 5 <= code.size()) add(i + 5, Distance(code, i + 1));
    if (byte == 0x0f && next >> 4 == 8 && i + 6 <= code.size()) add(i + 6, Distance(code, i + 2));
    if (byte == 0xff && (next >> 3 & 7) == 4) out->computed = true;  // ff /4
  }
}

}  // namespace lbrd::unwind::x86_64
