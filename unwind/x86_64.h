// What unwinding has to know of x86-64, apart so that another architecture can stand beside it:
// register numbers, what a call and a signal look like, and what code without call frame
// information suggests.
//
// Numbers of registers: System V ABI, AMD64 supplement, figure 3.36. The signal frame: the kernel's
// user interface (struct ucontext of asm/ucontext.h and asm/sigcontext.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lbrd::unwind::x86_64 {

// DWARF's register numbers.
enum Register : uint8_t {
  kRax = 0,
  kRdx = 1,
  kRcx = 2,
  kRbx = 3,
  kRsi = 4,
  kRdi = 5,
  kRbp = 6,
  kRsp = 7,
  kR8 = 8,
  kR9 = 9,
  kR10 = 10,
  kR11 = 11,
  kR12 = 12,
  kR13 = 13,
  kR14 = 14,
  kR15 = 15,
  kRip = 16,  // the column of the return address
};
inline constexpr size_t kRegisters = 17;

// perf_regs.h's number of each.
extern const uint8_t kPerfRegister[kRegisters];

// The registers that a callee saves, but the stack pointer.
inline constexpr size_t kCalleeSaved = 6;
inline constexpr Register kCalleeSavedRegisters[kCalleeSaved] = {kRbp, kRbx, kR12,
                                                                 kR13, kR14, kR15};

// How many bytes before a return address, and from a signal trampoline on, the functions below
// want to see.
inline constexpr size_t kCallBytes = 7;
inline constexpr size_t kTrampolineBytes = 9;
inline constexpr size_t kPrologueBytes = 8;

// Whether `code`, the kCallBytes bytes before an address, may end in a call instruction: e8 with a
// distance, or ff /2 with any operand.
bool EndsInCall(std::span<const std::byte> code);

// Whether `code` calls rt_sigreturn: what a signal handler returns to. The kernel then takes the
// interrupted registers from the stack, so this is its interface and no guess.
bool IsSignalReturn(std::span<const std::byte> code);

// Whether an address is where rt_sigreturn has been called from, which a sample shows that is taken
// in the kernel meanwhile; nobody returns there. `before`: the kTrampolineBytes bytes before it;
// `after`: from it on, where nothing but padding may follow, or it were the function there.
bool IsBehindSignalReturn(std::span<const std::byte> before, std::span<const std::byte> after);

// Where the kernel stored a register of the interrupted code, from the stack pointer of the
// trampoline up.
uint64_t SignalFrameOffset(uint8_t reg);

// The linker's call frame information for a PLT says: CFA = rsp + 8, and 8 more from byte `n` of an
// entry's 16 on, where its index has been pushed. The `n` of such an expression.
std::optional<uint8_t> PltPushedFrom(std::span<const std::byte> expression);

inline constexpr size_t kEpilogueBytes = 16;

// Whether `code` only pops registers and returns, or pops some and jumps to another function: what
// was saved below the stack pointer has been taken back into its register.
bool EndsFunction(std::span<const std::byte> code);

// How far a function is with setting up its frame, by the look of its code.
enum class FrameSetup : uint8_t {
  kNone,    // at its first instruction or at its return: nothing is pushed
  kPushed,  // the caller's frame pointer is pushed, its own is not yet set
  kDone,    // as far as one can see: the frame pointer is its own
};
// `before`: the bytes that precede the instruction pointer (at most kPrologueBytes count); `after`:
// those from it on.
FrameSetup LooksLike(std::span<const std::byte> before, std::span<const std::byte> after);

}  // namespace lbrd::unwind::x86_64
