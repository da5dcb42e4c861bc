#include "unwind/x86_64.h"

#include <asm/perf_regs.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace lbrd::unwind::x86_64 {
namespace {

constexpr uint8_t kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
constexpr uint8_t kPushRbp[] = {0x55};
// mov %rsp,%rbp in its two encodings.
constexpr uint8_t kMovRspRbp[] = {0x48, 0x89, 0xe5};
constexpr uint8_t kMovRspRbpOther[] = {0x48, 0x8b, 0xec};
constexpr uint8_t kReturn[] = {0xc3};
// mov $15,%rax; syscall, with and without sign extension.
constexpr uint8_t kSignalReturn[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
constexpr uint8_t kSignalReturnShort[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};

template <size_t n>
bool StartsWith(std::span<const std::byte> code, const uint8_t (&bytes)[n]) {
  return code.size() >= n && std::memcmp(code.data(), bytes, n) == 0;
}
template <size_t n>
bool EndsWith(std::span<const std::byte> code, const uint8_t (&bytes)[n]) {
  return code.size() >= n && std::memcmp(code.data() + code.size() - n, bytes, n) == 0;
}

// How long ff /2 with this ModRM byte is; 0: it is not ff /2, or needs a SIB byte of `sib`.
size_t IndirectCallSize(uint8_t modrm, uint8_t sib) {
  if ((modrm >> 3 & 7) != 2) return 0;
  const uint8_t mode = modrm >> 6;
  const uint8_t rm = modrm & 7;
  if (mode == 3) return 2;
  size_t size = 2;
  if (rm == 4) {
    ++size;
    if (mode == 0 && (sib & 7) == 5) size += 4;
  }
  if (mode == 0 && rm == 5) size += 4;
  if (mode == 1) size += 1;
  if (mode == 2) size += 4;
  return size;
}

}  // namespace

const uint8_t kPerfRegister[kRegisters] = {
    PERF_REG_X86_AX,  PERF_REG_X86_DX,  PERF_REG_X86_CX,  PERF_REG_X86_BX,  PERF_REG_X86_SI,
    PERF_REG_X86_DI,  PERF_REG_X86_BP,  PERF_REG_X86_SP,  PERF_REG_X86_R8,  PERF_REG_X86_R9,
    PERF_REG_X86_R10, PERF_REG_X86_R11, PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14,
    PERF_REG_X86_R15, PERF_REG_X86_IP};

bool EndsInCall(std::span<const std::byte> code) {
  const size_t size = code.size();
  const auto at = [&](size_t before_end) { return static_cast<uint8_t>(code[size - before_end]); };
  if (size >= 5 && at(5) == 0xe8) return true;
  for (size_t length = 2; length <= std::min(size, kCallBytes); ++length) {
    if (at(length) != 0xff) continue;
    const uint8_t sib = length >= 3 ? at(length - 2) : 0;
    if (IndirectCallSize(at(length - 1), sib) == length) return true;
  }
  return false;
}

bool IsSignalReturn(std::span<const std::byte> code) {
  return StartsWith(code, kSignalReturn) || StartsWith(code, kSignalReturnShort);
}

bool IsBehindSignalReturn(std::span<const std::byte> before, std::span<const std::byte> after) {
  if (after.empty()) return false;
  const bool called = EndsWith(before, kSignalReturn) || EndsWith(before, kSignalReturnShort);
  // nop; int3; the nops of several bytes, which begin with 66 or with 0f 1f.
  const auto at = [&](size_t i) { return std::to_integer<uint8_t>(after[i]); };
  const bool padding = at(0) == 0x90 || at(0) == 0xcc || at(0) == 0x66 ||
                       (after.size() > 1 && at(0) == 0x0f && at(1) == 0x1f);
  return called && padding;
}

uint64_t SignalFrameOffset(uint8_t reg) {
  // uc_flags, uc_link and uc_stack come first; then sigcontext's registers in its own order.
  constexpr uint64_t kRegistersAt = 40;
  constexpr Register kOrder[] = {kR8,  kR9,  kR10, kR11, kR12, kR13, kR14, kR15, kRdi,
                                 kRsi, kRbp, kRbx, kRdx, kRax, kRcx, kRsp, kRip};
  const auto* found = std::find(std::begin(kOrder), std::end(kOrder), reg);
  return kRegistersAt + 8 * static_cast<uint64_t>(found - std::begin(kOrder));
}

std::optional<uint8_t> PltPushedFrom(std::span<const std::byte> expression) {
  // breg7 8; breg16 0; lit15; and; lit `n`; ge; lit3; shl; plus
  constexpr uint8_t kBefore[] = {0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a};
  constexpr uint8_t kAfter[] = {0x2a, 0x33, 0x24, 0x22};
  constexpr uint8_t kLiteral0 = 0x30;
  if (expression.size() != sizeof(kBefore) + 1 + sizeof(kAfter) ||
      !StartsWith(expression, kBefore) || !EndsWith(expression, kAfter)) {
    return std::nullopt;
  }
  const auto literal = static_cast<uint8_t>(expression[sizeof(kBefore)]);
  if (literal < kLiteral0 || literal > kLiteral0 + 16) return std::nullopt;
  return literal - kLiteral0;
}

bool EndsFunction(std::span<const std::byte> code) {
  bool pops = false;
  while (!code.empty()) {
    const size_t prefix = code[0] == std::byte{0x41} ? 1 : 0;  // REX.B: r8 to r15
    if (code.size() > prefix && (static_cast<uint8_t>(code[prefix]) & 0xf8) == 0x58) {
      pops = true;
      code = code.subspan(prefix + 1);
      continue;
    }
    constexpr uint8_t kReturnAndPop[] = {0xc2};
    constexpr uint8_t kPaddedReturn[] = {0xf3, 0xc3};
    constexpr uint8_t kJump[] = {0xe9};
    constexpr uint8_t kShortJump[] = {0xeb};
    return StartsWith(code, kReturn) || StartsWith(code, kReturnAndPop) ||
           StartsWith(code, kPaddedReturn) ||
           (pops && (StartsWith(code, kJump) || StartsWith(code, kShortJump)));
  }
  return false;
}

FrameSetup LooksLike(std::span<const std::byte> before, std::span<const std::byte> after) {
  if (StartsWith(after, kPushRbp) &&
      (StartsWith(after.subspan(1), kMovRspRbp) || StartsWith(after.subspan(1), kMovRspRbpOther))) {
    return FrameSetup::kNone;
  }
  if (StartsWith(after, kEndbr64) || StartsWith(after, kReturn)) return FrameSetup::kNone;
  if ((StartsWith(after, kMovRspRbp) || StartsWith(after, kMovRspRbpOther)) &&
      EndsWith(before, kPushRbp)) {
    return FrameSetup::kPushed;
  }
  return FrameSetup::kDone;
}

}  // namespace lbrd::unwind::x86_64
