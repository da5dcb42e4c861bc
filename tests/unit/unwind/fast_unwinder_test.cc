// The fast unwinder over the test's own stack, instruction by instruction, against libunwind; and
// what it does where there is nothing to go by. x86-64 alone.
#include "unwind/fast_unwinder.h"

#include <asm/perf_regs.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/stepped_samples.h"
#include "unwind/dwarf_unwinder.h"
#include "unwind/stack_resolver.h"
#include "unwind/x86_64.h"

namespace lbrd::unwind {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Verdict kComplete{StackState::kComplete, StackReason::kNone};
constexpr Verdict Truncated(StackReason reason) { return {StackState::kTruncated, reason}; }

[[gnu::noinline]] void Throw(int depth) {
  std::string text(static_cast<size_t>(20 + depth), 'x');  // to be destroyed on the way
  if (depth == 0) throw std::runtime_error(text);
  Throw(depth - 1);
  asm volatile("" ::"r"(text.data()));
}

int CompareInts(const void* a, const void* b) {
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

volatile sig_atomic_t g_signals = 0;
void OnSignal(int) {
  SteppedSamples::Step(true);  // the kernel starts handlers without
  char text[32];
  std::snprintf(text, sizeof(text), "%d", g_signals);
  g_signals = g_signals + 1;
}

// Library code of many kinds: callbacks from C, exceptions, formatting, allocation, the vdso,
// lazily bound calls, a signal handler.
void Work() {
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) names.push_back(std::to_string(i * 7919 % 101));
  std::sort(names.begin(), names.end());
  int numbers[] = {5, 3, 9, 1, 7, 2, 8};
  std::qsort(numbers, std::size(numbers), sizeof(int), CompareInts);
  for (int i = 0; i < 3; ++i) {
    try {
      Throw(3);
    } catch (const std::exception& e) {
      names.emplace_back(e.what());
    }
  }
  std::ostringstream out;
  out << 3.25 << ' ' << names.size() << std::hex << 255;
  char text[64];
  std::snprintf(text, sizeof(text), "%s %.3f %lx", out.str().c_str(), 2.5, 99L);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  std::map<std::string, int> counts;
  for (const std::string& name : names) ++counts[name];
  raise(SIGUSR1);
}

// By its bytes: libunwind's unw_is_signal_frame() knows only frames that it has stepped into.
bool IsTrampoline(uint64_t ip) {
  constexpr uint8_t kSignalReturn[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  return std::memcmp(reinterpret_cast<const void*>(ip), kSignalReturn, sizeof(kSignalReturn)) == 0;
}

std::span<const std::byte> CodeAt(uint64_t ip) {
  return {reinterpret_cast<const std::byte*>(ip), x86_64::kEpilogueBytes};
}

class FastUnwinderTest : public testing::Test {
 protected:
  // The frames above a sample by libunwind.
  Verdict ByLibunwind(const SteppedSamples::Sample& sample) {
    ips_.clear();
    return dwarf_.Unwind(1, space_, sample.registers(), sample.stack, &ips_);
  }
  std::optional<Verdict> Unwind(const AddressSpace& space, const pmu::Registers& registers,
                                std::span<const std::byte> stack) {
    frames_.clear();
    return unwinder_.Unwind(space, registers, stack, &frames_);
  }
  std::vector<uint64_t> Ips() const {
    std::vector<uint64_t> ips;
    for (const UnwoundFrame& frame : frames_) ips.push_back(frame.ip);
    return ips;
  }

  LiveFiles files_;
  BinaryCache binaries_{&files_};
  AddressSpace space_ = LiveSpace(&binaries_);
  FastUnwinder unwinder_{binaries_.rule_tables()};
  DwarfUnwinder dwarf_;
  std::vector<uint64_t> ips_;
  std::vector<UnwoundFrame> frames_;
};

TEST_F(FastUnwinderTest, AgreesWithLibunwindAtEveryInstruction) {
  if (!SteppedSamples::kMayStep) GTEST_SKIP() << "sanitizers' code may not be stepped through";
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  struct sigaction before;
  sigaction(SIGUSR1, &action, &before);
  SteppedSamples recorded;
#ifdef __OPTIMIZE__
  constexpr size_t kEvery = 41;
#else
  constexpr size_t kEvery = 101;
#endif
  recorded.Record(Work, kEvery, /*max_samples=*/8000, /*max_stack=*/16384);
  sigaction(SIGUSR1, &before, nullptr);
  ASSERT_GT(recorded.samples().size(), 2000u);
  space_ = LiveSpace(&binaries_);  // libraries that were loaded on the way included

  size_t complete = 0;
  std::map<std::string, size_t> reasons;
  size_t differing = 0;
  size_t taken_back = 0;  // complete here alone
  size_t trampolines = 0;
  for (const SteppedSamples::Sample& sample : recorded.samples()) {
    const Verdict theirs = ByLibunwind(sample);
    const std::optional<Verdict> ours = Unwind(space_, sample.registers(), sample.stack);
    ASSERT_TRUE(ours.has_value()) << std::hex << sample.ip();
    complete += *ours == kComplete;
    ++reasons[std::string(StackReasonName(ours->reason))];
    // The sample may be of the trampoline itself, at either of its two instructions.
    bool interrupted = IsTrampoline(sample.ip()) || IsTrampoline(sample.ip() - 7);
    bool same = *ours == theirs && Ips() == ips_;
    // libunwind wants what an epilogue has popped from below the stack pointer.
    if (*ours == kComplete && theirs == Truncated(StackReason::kUnwindFailed) &&
        x86_64::EndsFunction(CodeAt(sample.ip()))) {
      const std::vector<uint64_t> all = Ips();
      same = all.size() > ips_.size() && std::equal(ips_.begin(), ips_.end(), all.begin());
      ++taken_back;
    }
    for (const UnwoundFrame& frame : frames_) {
      const bool trampoline = IsTrampoline(frame.ip);
      trampolines += trampoline;
      same = same && frame.exact == (trampoline || interrupted) && !frame.guess;
      EXPECT_EQ(unwinder_.IsSignalTrampoline(space_, frame.ip), trampoline);
      EXPECT_EQ(unwinder_.IsThreadStart(space_, frame.ip - 1),
                dwarf_.IsThreadStart(1, space_, frame.ip - 1));
      interrupted = trampoline;
    }
    if (same) continue;
    if (differing++ < 5) {
      const Mapping* mapping = space_.Find(sample.ip());
      ADD_FAILURE() << std::hex << sample.ip() << " in "
                    << (mapping != nullptr ? mapping->binary->path() : "nothing") << " at "
                    << (mapping != nullptr ? mapping->FileAddress(sample.ip()).value_or(0) : 0)
                    << ": " << std::dec << frames_.size() << " frames, "
                    << StackReasonName(ours->reason) << "; libunwind " << ips_.size() << ", "
                    << StackReasonName(theirs.reason);
    }
  }
  std::printf("%zu samples of %zu instructions, %zu complete, %zu trampolines\n",
              recorded.samples().size(), static_cast<size_t>(recorded.instructions()), complete,
              trampolines);
  for (const auto& [reason, count] : reasons) {
    std::printf("  %zu %s\n", count, reason.empty() ? "complete" : reason.c_str());
  }
  std::printf("%zu of them complete where libunwind fails, in epilogues\n", taken_back);
  EXPECT_EQ(differing, 0u);
  EXPECT_GT(trampolines, 0u);
  EXPECT_GT(complete, recorded.samples().size() * 95 / 100);
}

// Registers and stack that lead nowhere in particular.
struct MadeUp {
  std::vector<uint64_t> values = std::vector<uint64_t>(PERF_REG_X86_R15 + 1);
  std::vector<uint64_t> stack;
  pmu::Registers registers() const {
    return {.abi = PERF_SAMPLE_REGS_ABI_64,
            .mask = (uint64_t{1} << values.size()) - 1,
            .values = values};
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(stack)); }
};

constexpr uint64_t kStack = 0x7000;
constexpr uint64_t kJit = 0x10000;
constexpr uint64_t kJitEnd = 0x20000;

class GuessTest : public FastUnwinderTest {
 protected:
  GuessTest() {
    space_.Map({.start = kJit,
                .end = kJitEnd,
                .file_offset = 0,
                .binary = binaries_.Get(1, {.path = "//anon"})});
    sample_.values[PERF_REG_X86_SP] = kStack;
    sample_.values[PERF_REG_X86_IP] = kJit + 0x10;
  }
  std::optional<Verdict> UnwindSample() {
    return Unwind(space_, sample_.registers(), sample_.bytes());
  }
  MadeUp sample_;
};

TEST_F(GuessTest, FramePointersAreFollowedThroughCodeMadeAtRunTime) {
  sample_.values[PERF_REG_X86_BP] = kStack + 16;
  // Two frames; at kStack + 16 and + 40 the callers' frame pointers and the return addresses.
  sample_.stack = {0, 0, kStack + 40, kJit + 0x200, 0, 0, kJit + 0x300, 0};
  EXPECT_EQ(UnwindSample(), Truncated(StackReason::kNoUnwindInfo));
  EXPECT_THAT(frames_, ElementsAre(UnwoundFrame{kJit + 0x200, false, true},
                                   UnwoundFrame{kJit + 0x300, false, true}));
}

TEST_F(GuessTest, AStackWithAGuessIsNeverComplete) {
  sample_.values[PERF_REG_X86_BP] = kStack;
  const uint64_t start = ProgramEntry();
  ASSERT_TRUE(unwinder_.IsThreadStart(space_, start));
  // The call of main's caller in _start is where a thread's start is returned to.
  uint64_t after_call = 0;
  for (uint64_t ip = start + 5; ip < start + 64 && after_call == 0; ++ip) {
    const auto* code = reinterpret_cast<const uint8_t*>(ip);
    if ((code[-6] == 0xff && code[-5] == 0x15) || code[-5] == 0xe8) after_call = ip;
  }
  ASSERT_NE(after_call, 0u);
  sample_.stack = {0, after_call};
  EXPECT_EQ(UnwindSample(), (Verdict{StackState::kUnknown, StackReason::kNoUnwindInfo}));
  EXPECT_THAT(frames_, ElementsAre(UnwoundFrame{after_call, false, true}));
  // A return address with no call before it is none.
  sample_.stack = {0, start + 1};
  EXPECT_EQ(UnwindSample(), Truncated(StackReason::kNoUnwindInfo));
  EXPECT_THAT(frames_, IsEmpty());
}

TEST_F(GuessTest, FramePointersThatLeadNowhereAreNotFollowed) {
  const std::vector<uint64_t> stack = {0, 0, kStack + 40, kJit + 0x200, 0, 0, kJit + 0x300, 0};
  sample_.stack = stack;
  for (const uint64_t bp : {uint64_t{0}, kStack - 16, kStack + 17, kStack + 64, ~uint64_t{0},
                            ~uint64_t{0} - 7, uint64_t{1} << 63}) {
    sample_.values[PERF_REG_X86_BP] = bp;
    EXPECT_EQ(UnwindSample(), Truncated(StackReason::kNoUnwindInfo)) << bp;
    EXPECT_THAT(frames_, IsEmpty()) << bp;
  }
  // One that points at itself does not go round.
  sample_.values[PERF_REG_X86_BP] = kStack + 16;
  sample_.stack[2] = kStack + 16;
  EXPECT_EQ(UnwindSample(), Truncated(StackReason::kNoUnwindInfo));
  EXPECT_THAT(frames_, ElementsAre(UnwoundFrame{kJit + 0x200, false, true}));
  // Nor is data a return address.
  sample_.stack = stack;
  sample_.stack[3] = 0x30000;
  EXPECT_EQ(UnwindSample(), Truncated(StackReason::kNoUnwindInfo));
  EXPECT_THAT(frames_, IsEmpty());
}

TEST_F(GuessTest, AnUnreadableBinaryIsTheReason) {
  Mapping mapping = *space_.Find(kJit);
  mapping.binary =
      std::make_shared<Binary>(FileIdentity{.path = "/deleted"}, "there is no such file");
  space_.Map(mapping);
  sample_.values[PERF_REG_X86_BP] = kStack;
  sample_.stack = {0, kJit + 0x200};
  EXPECT_EQ(UnwindSample(), Truncated(StackReason::kNoBinary));
  EXPECT_THAT(frames_, ElementsAre(UnwoundFrame{kJit + 0x200, false, true}));
}

TEST_F(GuessTest, TheResolverShowsGuessesAsSuch) {
  StackResolver resolver(binaries_.rule_tables());
  sample_.values[PERF_REG_X86_BP] = kStack;
  sample_.stack = {0, kJit + 0x200};
  pmu::SampleRecord record;
  record.cpumode = PERF_RECORD_MISC_USER;
  record.has_ip = true;
  record.ip = kJit + 0x10;
  record.user_regs = sample_.registers();
  record.user_stack = sample_.bytes();
  ResolvedStack stack;
  resolver.Resolve(record, {}, Process{.pid = 1, .space = space_, .comms = {}}, &stack);
  ASSERT_EQ(stack.frames.size(), 2u);
  EXPECT_EQ(stack.frames[0].source, FrameSource::kSampledIp);
  EXPECT_EQ(stack.frames[1].source, FrameSource::kGuess);
  EXPECT_EQ(stack.frames[1].look_up(), kJit + 0x1ff);
  EXPECT_EQ(stack.verdict, Truncated(StackReason::kNoUnwindInfo));
}

// Code that is never run: 16 bytes a register, which by its call frame information holds the
// address 16 bytes below the caller's stack pointer.
asm(R"(
  .pushsection .text
  .balign 16
lbrd_fast_cfa_by_register:
  .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
  .cfi_startproc
  .cfi_def_cfa \register, 16
  .fill 16, 1, 0x90
  .cfi_endproc
  .endr
lbrd_fast_odd_rules:
  // Return address in a register.
  .cfi_startproc
  .cfi_register rip, rdx
  .fill 16, 1, 0x90
  .cfi_endproc
  // CFA by an expression: the word that rbx points at; rbp is CFA - 8 (DW_CFA_val_offset, whose
  // directive clang 14 lacks), r12 was in r13.
  .cfi_startproc
  .cfi_escape 0x0f, 0x03, 0x73, 0x00, 0x06
  .cfi_escape 0x14, 0x06, 0x01
  .cfi_register r12, r13
  .fill 16, 1, 0x90
  .cfi_endproc
  // An expression of a kind that makes no sense here (DW_OP_piece).
  .cfi_startproc
  .cfi_escape 0x0f, 0x02, 0x93, 0x08
  .fill 16, 1, 0x90
  .cfi_endproc
  // The caller's rbp is lost.
  .cfi_startproc
  .cfi_undefined rbp
  .fill 16, 1, 0x90
  .cfi_endproc
  // Its CFA is by rbp.
  .cfi_startproc
  .cfi_def_cfa rbp, 16
  .fill 16, 1, 0x90
  .cfi_endproc
lbrd_fast_no_information:
  push %rbp
  mov %rsp, %rbp
  .fill 12, 1, 0x90
lbrd_fast_signal_return:
  mov $15, %rax
  syscall
  nopl 0(%rax)
lbrd_fast_short_signal_return:
  mov $15, %eax
  syscall
  push %rbp
  .popsection
)");
extern "C" const char lbrd_fast_cfa_by_register[];
extern "C" const char lbrd_fast_odd_rules[];
extern "C" const char lbrd_fast_no_information[];
extern "C" const char lbrd_fast_signal_return[];
extern "C" const char lbrd_fast_short_signal_return[];

uint64_t OddRule(size_t number) {
  return reinterpret_cast<uint64_t>(lbrd_fast_odd_rules) + 16 * number + 8;
}

class OddRuleTest : public FastUnwinderTest {
 protected:
  OddRuleTest() {
    sample_.values[PERF_REG_X86_SP] = kStack;
    sample_.stack = std::vector<uint64_t>(8);
  }
  std::optional<Verdict> UnwindAt(uint64_t ip) {
    sample_.values[PERF_REG_X86_IP] = ip;
    return Unwind(space_, sample_.registers(), sample_.bytes());
  }
  MadeUp sample_;
  const uint64_t caller_ = ProgramEntry() + 1;
};

TEST_F(OddRuleTest, TakesEachRegisterFromItsPlace) {
  sample_.stack[4] = caller_;
  uint64_t code = reinterpret_cast<uint64_t>(lbrd_fast_cfa_by_register);
  for (const unsigned number :
       {PERF_REG_X86_AX, PERF_REG_X86_BX, PERF_REG_X86_CX, PERF_REG_X86_DX, PERF_REG_X86_SI,
        PERF_REG_X86_DI, PERF_REG_X86_BP, PERF_REG_X86_R8, PERF_REG_X86_R9, PERF_REG_X86_R10,
        PERF_REG_X86_R11, PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14, PERF_REG_X86_R15}) {
    std::fill(sample_.values.begin(), sample_.values.end(), 0x6666);
    sample_.values[PERF_REG_X86_SP] = kStack;
    sample_.values[number] = kStack + 24;
    EXPECT_EQ(UnwindAt(code + 8), kComplete) << number;
    EXPECT_THAT(Ips(), ElementsAre(caller_)) << number;
    code += 16;
  }
}

TEST_F(OddRuleTest, AReturnAddressInARegister) {
  sample_.values[PERF_REG_X86_DX] = caller_;
  EXPECT_EQ(UnwindAt(OddRule(0)), kComplete);
  EXPECT_THAT(Ips(), ElementsAre(caller_));
}

TEST_F(OddRuleTest, ExpressionsReadTheStack) {
  sample_.values[PERF_REG_X86_BX] = kStack + 48;
  sample_.stack[6] = kStack + 32;  // the CFA
  // The caller's CFA is by rbp, which is CFA - 8.
  sample_.stack[3] = OddRule(4);
  sample_.stack[4] = caller_;
  EXPECT_EQ(UnwindAt(OddRule(1)), kComplete);
  EXPECT_THAT(Ips(), ElementsAre(OddRule(4), caller_));
  // Beyond the copy.
  sample_.values[PERF_REG_X86_BX] = kStack + 64;
  EXPECT_EQ(UnwindAt(OddRule(1)), Truncated(StackReason::kStackCopyEnded));
  // Below it there is nothing, nor where no file is.
  sample_.values[PERF_REG_X86_BX] = 16;
  EXPECT_EQ(UnwindAt(OddRule(1)), Truncated(StackReason::kUnwindFailed));
}

TEST_F(OddRuleTest, ExpressionsReadConstantsOfFiles) {
  // A word of this program's code is a constant; it is no CFA that leads anywhere.
  sample_.values[PERF_REG_X86_BX] = reinterpret_cast<uint64_t>(lbrd_fast_odd_rules);
  EXPECT_EQ(UnwindAt(OddRule(1)), Truncated(StackReason::kStackCopyEnded));
  // Variables are not: what the file says of them may have changed.
  static uint64_t variable = kStack + 32;
  sample_.stack[3] = caller_;
  sample_.values[PERF_REG_X86_BX] = reinterpret_cast<uint64_t>(&variable);
  EXPECT_NE(UnwindAt(OddRule(1)), kComplete);
}

TEST_F(OddRuleTest, WhatIsNotUnderstoodIsHandedOver) {
  frames_.clear();
  EXPECT_EQ(UnwindAt(OddRule(2)), std::nullopt);
  EXPECT_EQ(unwinder_.counts().handed_over, 1u);
  // As a caller too: what was found before is taken back.
  sample_.stack[0] = OddRule(2);
  sample_.values[PERF_REG_X86_DX] = OddRule(2);
  EXPECT_EQ(UnwindAt(OddRule(0)), std::nullopt);
  EXPECT_THAT(frames_, IsEmpty());
  EXPECT_EQ(unwinder_.counts().handed_over, 2u);
}

TEST_F(OddRuleTest, ALostRegisterIsNotMadeUp) {
  sample_.values[PERF_REG_X86_BP] = kStack + 16;
  sample_.stack[0] = OddRule(4);
  sample_.stack[3] = caller_;
  EXPECT_EQ(UnwindAt(OddRule(3)), Truncated(StackReason::kUnwindFailed));
  EXPECT_THAT(Ips(), ElementsAre(OddRule(4)));
}

TEST_F(OddRuleTest, APrologueIsRecognizedWhereThereIsNoInformation) {
  const auto code = reinterpret_cast<uint64_t>(lbrd_fast_no_information);
  space_.Map({.start = kJit,
              .end = kJitEnd,
              .file_offset = 0,
              .binary = binaries_.Get(1, {.path = "//anon"})});
  sample_.stack = {kJit + 0x100, kJit + 0x200, kJit + 0x300};
  sample_.values[PERF_REG_X86_BP] = 1;
  const auto first = [&] { return frames_.empty() ? 0 : frames_[0].ip; };
  UnwindAt(code);
  EXPECT_EQ(first(), kJit + 0x100);  // nothing is pushed
  UnwindAt(code + 1);
  EXPECT_EQ(first(), kJit + 0x200);  // rbp is
  sample_.values[PERF_REG_X86_BP] = kStack + 8;
  UnwindAt(code + 4);
  EXPECT_EQ(first(), kJit + 0x300);  // and set
  for (const UnwoundFrame& frame : frames_) EXPECT_TRUE(frame.guess);
}

TEST_F(OddRuleTest, ASignalReturnNeedsNoInformation) {
  const auto trampoline = reinterpret_cast<uint64_t>(lbrd_fast_signal_return);
  // The sampled function has been called by the kernel, with this as the return address.
  sample_.stack = std::vector<uint64_t>(40);
  sample_.values[PERF_REG_X86_DX] = trampoline;
  // Its frame begins with 5 words; then come the registers.
  constexpr size_t kRegistersAt = 1 + 5;
  sample_.stack[kRegistersAt + 15] = kStack + 8;  // rsp
  sample_.stack[kRegistersAt + 16] = caller_;     // rip
  EXPECT_EQ(UnwindAt(OddRule(0)), kComplete);
  EXPECT_THAT(frames_, ElementsAre(UnwoundFrame{trampoline, true, false},
                                   UnwoundFrame{caller_, true, false}));
  EXPECT_TRUE(unwinder_.IsSignalTrampoline(space_, trampoline));
}

TEST_F(OddRuleTest, AThreadMayBeInTheKernelForItsSignalReturn) {
  // User mode stands behind the system call, which is no function's any more; its stack pointer is
  // at the signal's frame.
  const auto behind = reinterpret_cast<uint64_t>(lbrd_fast_signal_return) + 9;
  sample_.stack = std::vector<uint64_t>(40);
  sample_.stack[5 + 15] = kStack + 8;  // rsp
  sample_.stack[5 + 16] = caller_;     // rip
  EXPECT_EQ(UnwindAt(behind), kComplete);
  EXPECT_THAT(frames_, ElementsAre(UnwoundFrame{caller_, true, false}));
  // Where code follows, that may be what runs.
  UnwindAt(reinterpret_cast<uint64_t>(lbrd_fast_short_signal_return) + 7);
  for (const UnwoundFrame& frame : frames_) EXPECT_TRUE(frame.guess);
}

TEST_F(FastUnwinderTest, MissingRegistersAreAnError) {
  const pmu::Registers none{.abi = PERF_SAMPLE_REGS_ABI_64, .mask = 0, .values = {}};
  EXPECT_EQ(Unwind(space_, none, {}), Truncated(StackReason::kUnwindFailed));
}

TEST_F(FastUnwinderTest, RulesOfOneSpaceAreNotUsedInAnother) {
  ASSERT_TRUE(unwinder_.IsThreadStart(space_, ProgramEntry()));
  AddressSpace other;
  for (Mapping m : space_.mappings()) {
    m.binary = std::make_shared<Binary>(FileIdentity{.path = "/deleted"}, "there is no such file");
    other.Map(m);
  }
  EXPECT_FALSE(unwinder_.IsThreadStart(other, ProgramEntry()));
  EXPECT_FALSE(unwinder_.IsThreadStart(AddressSpace(), ProgramEntry()));
  EXPECT_TRUE(unwinder_.IsThreadStart(space_, ProgramEntry()));
  // Nothing is there, whatever is known of an address that differs in one bit.
  EXPECT_FALSE(unwinder_.IsThreadStart(space_, ProgramEntry() | uint64_t{1} << 63));
  EXPECT_FALSE(unwinder_.IsThreadStart(space_, ~uint64_t{0}));
  EXPECT_FALSE(unwinder_.IsThreadStart(space_, 0));
}

}  // namespace
}  // namespace lbrd::unwind
