// Unwinds the test's own stack from a copy of it and compares with what libgcc's unwinder says in
// place. x86-64 alone, as DwarfUnwinder is.
#include "unwind/dwarf_unwinder.h"

#include <asm/perf_regs.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/live_process.h"

#if defined(__clang__)
#define LBRD_NO_FRAME_POINTER [[gnu::noinline]]
#else
#define LBRD_NO_FRAME_POINTER [[gnu::noinline, gnu::optimize("omit-frame-pointer")]]
#endif

namespace lbrd::unwind {
namespace {

using testing::Each;
using testing::ElementsAreArray;
using testing::IsEmpty;
using testing::SizeIs;

constexpr Verdict kComplete{StackState::kComplete, StackReason::kNone};
constexpr Verdict Truncated(StackReason reason) { return {StackState::kTruncated, reason}; }

constexpr size_t kMaxCopy = 2u << 20;

// What the kernel would have recorded of a thread, and its return addresses by another unwinder.
struct Captured {
  ucontext_t context;
  std::vector<uint64_t> values;
  std::vector<std::byte> stack;
  std::vector<uint64_t> callers;

  pmu::Registers registers() const {
    constexpr uint64_t kGeneral = 0x1ff;  // AX, BX, CX, DX, SI, DI, BP, SP, IP
    constexpr uint64_t kHigh = 0xff0000;  // R8 to R15
    return {.abi = PERF_SAMPLE_REGS_ABI_64, .mask = kGeneral | kHigh, .values = values};
  }
};

uint64_t EndOfMappingAt(uint64_t address) {
  uint64_t end = address;
  ForEachLiveMapping([&](const LiveMapping& m) {
    if (m.start <= address && address < m.end) end = m.end;
  });
  return end;
}

// A sanitizer's red zones are copied as well.
__attribute__((no_sanitize("address"))) void CopyStack(uint64_t from, std::span<std::byte> out) {
  const volatile auto* bytes = reinterpret_cast<const volatile std::byte*>(from);
  for (size_t i = 0; i < out.size(); ++i) out[i] = bytes[i];
}

_Unwind_Reason_Code AddCaller(_Unwind_Context* context, void* callers) {
  const uint64_t ip = _Unwind_GetIP(context);
  if (ip != 0) static_cast<std::vector<uint64_t>*>(callers)->push_back(ip);
  return _URC_NO_REASON;
}

[[gnu::noinline]] void Capture(Captured* out) {
  getcontext(&out->context);
  _Unwind_Backtrace(AddCaller, &out->callers);
  // The first is in this function, as the captured instruction pointer is.
  ASSERT_FALSE(out->callers.empty());
  out->callers.erase(out->callers.begin());
  const auto& r = out->context.uc_mcontext.gregs;
  for (const int number :
       {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_RIP, REG_R8,
        REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15}) {
    out->values.push_back(static_cast<uint64_t>(r[number]));
  }
  const uint64_t sp = static_cast<uint64_t>(r[REG_RSP]);
  out->stack.resize(std::min<uint64_t>(EndOfMappingAt(sp) - sp, kMaxCopy));
  CopyStack(sp, out->stack);
}

// Calls are no tail calls, and frames differ in size.
LBRD_NO_FRAME_POINTER int Odd(int depth, Captured* out);

LBRD_NO_FRAME_POINTER int Even(int depth, Captured* out) {
  int below = depth;
  if (depth == 0) {
    Capture(out);
  } else {
    below += Odd(depth - 1, out);
  }
  asm volatile("" : "+r"(below));
  return below;
}

LBRD_NO_FRAME_POINTER int Odd(int depth, Captured* out) {
  volatile uint64_t room[5] = {1, 2, 3, 4, 5};
  int below = Even(depth - 1, out);
  asm volatile("" : "+r"(below));
  return below + static_cast<int>(room[static_cast<size_t>(depth) % 5]);
}

// Code that is never run: 16 bytes a register, which by its call frame information holds the
// address 16 bytes below the caller's stack pointer.
asm(R"(
  .pushsection .text
  .balign 16
lbrd_test_cfa_by_register:
  .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
  .cfi_startproc
  .cfi_def_cfa \register, 16
  .fill 16, 1, 0x90
  .cfi_endproc
  .endr
  .popsection
)");
extern "C" const char lbrd_test_cfa_by_register[];

Captured* g_in_handler = nullptr;

void Handler(int) {
  int depth = Even(2, g_in_handler);
  asm volatile("" : "+r"(depth));
}

LBRD_NO_FRAME_POINTER int RaiseAndCapture(Captured* out) {
  struct sigaction action = {};
  action.sa_handler = Handler;
  struct sigaction before;
  g_in_handler = out;
  sigaction(SIGUSR1, &action, &before);
  int result = raise(SIGUSR1);
  asm volatile("" : "+r"(result));
  sigaction(SIGUSR1, &before, nullptr);
  return result;
}

class DwarfUnwinderTest : public testing::Test {
 protected:
  Verdict Unwind(const AddressSpace& space, const Captured& captured) {
    ips_.clear();
    return unwinder_.Unwind(1, space, captured.registers(), captured.stack, &ips_);
  }

  LiveFiles files_;
  BinaryCache binaries_{&files_};
  AddressSpace space_ = LiveSpace(&binaries_);
  DwarfUnwinder unwinder_;
  std::vector<uint64_t> ips_;
};

bool IsLibc(const std::string& path) { return absl::StrContains(path, "/libc.so"); }

TEST_F(DwarfUnwinderTest, ReachesTheMainThreadsStart) {
  Captured captured;
  Even(8, &captured);
  ASSERT_GT(captured.callers.size(), 12u);
  EXPECT_EQ(Unwind(space_, captured), kComplete);
  EXPECT_THAT(ips_, ElementsAreArray(captured.callers));
  // From the cache it is the same.
  EXPECT_EQ(Unwind(space_, captured), kComplete);
  EXPECT_THAT(ips_, ElementsAreArray(captured.callers));
}

TEST_F(DwarfUnwinderTest, ReachesAThreadsStart) {
  Captured captured;
  std::thread([&] { Even(6, &captured); }).join();
  ASSERT_GT(captured.callers.size(), 8u);
  EXPECT_EQ(Unwind(space_, captured), kComplete);
  EXPECT_THAT(ips_, ElementsAreArray(captured.callers));
}

TEST_F(DwarfUnwinderTest, PassesASignalFrame) {
#ifdef LBRD_TSAN
  GTEST_SKIP() << "ThreadSanitizer delivers signals itself, from frames of its own";
#endif
  Captured captured;
  ASSERT_EQ(RaiseAndCapture(&captured), 0);
  ASSERT_GT(captured.callers.size(), 8u);
  EXPECT_EQ(Unwind(space_, captured), kComplete);
  EXPECT_THAT(ips_, ElementsAreArray(captured.callers));
  Captured threads;
  std::thread([&] { RaiseAndCapture(&threads); }).join();
  EXPECT_EQ(Unwind(space_, threads), kComplete);
  EXPECT_THAT(ips_, ElementsAreArray(threads.callers));
}

TEST_F(DwarfUnwinderTest, AShortCopyGivesTheYoungestFramesAndSaysSo) {
  Captured captured;
  Even(8, &captured);
  const std::vector<std::byte> whole = std::move(captured.stack);
  std::vector<bool> seen(captured.callers.size() + 1);
  size_t frames = 0;
  for (size_t bytes = 0; frames < captured.callers.size(); bytes += 4) {
    ASSERT_LE(bytes, whole.size());
    captured.stack.assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes));
    const Verdict verdict = Unwind(space_, captured);
    ASSERT_LE(frames, ips_.size()) << bytes;
    frames = ips_.size();
    seen[frames] = true;
    ASSERT_THAT(ips_, ElementsAreArray(captured.callers.data(), frames)) << bytes;
    ASSERT_EQ(verdict, frames == captured.callers.size() ? kComplete
                                                         : Truncated(StackReason::kStackCopyEnded))
        << bytes;
  }
  // A longer copy gives one frame more at a time.
  EXPECT_THAT(seen, Each(true));
}

TEST_F(DwarfUnwinderTest, StopsWhereTheBinaryCannotBeRead) {
  Captured captured;
  Even(4, &captured);
  AddressSpace space = space_;
  std::vector<uint64_t> before_libc;
  for (const Mapping& m : space_.mappings()) {
    if (!IsLibc(m.binary->path())) continue;
    before_libc.assign(captured.callers.begin(),
                       std::find_if(captured.callers.begin(), captured.callers.end(),
                                    [&](uint64_t ip) { return m.start <= ip && ip < m.end; }));
    Mapping unreadable = m;
    unreadable.binary =
        std::make_shared<Binary>(FileIdentity{.path = "/deleted"}, "there is no such file");
    space.Map(unreadable);
  }
  ASSERT_LT(before_libc.size(), captured.callers.size()) << "this program has no shared libc";
  EXPECT_EQ(Unwind(space, captured), Truncated(StackReason::kNoBinary));
  // The frame that could not be left is the last.
  before_libc.push_back(captured.callers[before_libc.size()]);
  EXPECT_THAT(ips_, ElementsAreArray(before_libc));
}

TEST_F(DwarfUnwinderTest, RulesOfOneSpaceAreNotUsedInAnother) {
  Captured captured;
  Even(4, &captured);
  ASSERT_EQ(Unwind(space_, captured), kComplete);
  ASSERT_TRUE(unwinder_.IsThreadStart(1, space_, ProgramEntry()));
  // The process ID is used again, by a process with as many mappings at the same addresses.
  AddressSpace other;
  for (Mapping m : space_.mappings()) {
    m.binary = std::make_shared<Binary>(FileIdentity{.path = "/deleted"}, "there is no such file");
    other.Map(m);
  }
  EXPECT_EQ(Unwind(other, captured), Truncated(StackReason::kNoBinary));
  EXPECT_THAT(ips_, IsEmpty());
  EXPECT_FALSE(unwinder_.IsThreadStart(1, other, ProgramEntry()));
}

TEST_F(DwarfUnwinderTest, AnAddressInNoMappingIsBad) {
  Captured captured;
  Even(4, &captured);
  // The sampled one itself.
  EXPECT_EQ(Unwind(AddressSpace(), captured), Truncated(StackReason::kBadAddress));
  EXPECT_THAT(ips_, IsEmpty());
  // One on the way.
  EXPECT_EQ(Unwind(LiveSpace(&binaries_, IsLibc), captured), Truncated(StackReason::kBadAddress));
  EXPECT_FALSE(ips_.empty());
  EXPECT_LT(ips_.size(), captured.callers.size());
  // The third return address overwritten.
  for (size_t at = 0; at + 8 <= captured.stack.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, &captured.stack[at], sizeof(word));
    if (word != captured.callers[2]) continue;
    word = 0x1234;
    std::memcpy(&captured.stack[at], &word, sizeof(word));
    break;
  }
  EXPECT_EQ(Unwind(space_, captured), Truncated(StackReason::kBadAddress));
  EXPECT_THAT(ips_, ElementsAreArray(captured.callers.data(), 2));
}

TEST_F(DwarfUnwinderTest, CodeWithoutCallFrameInformationIsNotGuessed) {
  Captured captured;
  Even(4, &captured);
  AddressSpace space = space_;
  Mapping made_at_run_time = *space_.Find(captured.callers[0]);
  made_at_run_time.binary = binaries_.Get(1, {.path = "//anon"});
  space.Map(made_at_run_time);
  EXPECT_EQ(Unwind(space, captured), Truncated(StackReason::kNoUnwindInfo));
  EXPECT_THAT(ips_, IsEmpty());
}

TEST_F(DwarfUnwinderTest, CutsWhatIsTooDeep) {
  Captured captured;
  Even(static_cast<int>(DwarfUnwinder::kMaxFrames) + 10, &captured);
  EXPECT_EQ(Unwind(space_, captured), Truncated(StackReason::kTooDeep));
  EXPECT_THAT(ips_, SizeIs(DwarfUnwinder::kMaxFrames));
  EXPECT_TRUE(std::equal(ips_.begin(), ips_.end(), captured.callers.begin()));
}

TEST_F(DwarfUnwinderTest, MissingRegistersAreAnError) {
  Captured captured;
  Even(4, &captured);
  ips_.clear();
  const pmu::Registers none{.abi = PERF_SAMPLE_REGS_ABI_64, .mask = 0, .values = {}};
  EXPECT_EQ(unwinder_.Unwind(1, space_, none, captured.stack, &ips_),
            Truncated(StackReason::kUnwindFailed));
  EXPECT_THAT(ips_, IsEmpty());
}

TEST_F(DwarfUnwinderTest, TakesEachRegisterFromItsPlace) {
  constexpr uint64_t kStack = 0x7000;
  constexpr uint64_t kGarbage = 0x6666;
  const uint64_t caller = ProgramEntry() + 1;
  const std::vector<uint64_t> stack = {0, 0, 0, 0, caller, 0};
  uint64_t code = reinterpret_cast<uint64_t>(lbrd_test_cfa_by_register);
  for (const unsigned number :
       {PERF_REG_X86_AX, PERF_REG_X86_BX, PERF_REG_X86_CX, PERF_REG_X86_DX, PERF_REG_X86_SI,
        PERF_REG_X86_DI, PERF_REG_X86_BP, PERF_REG_X86_R8, PERF_REG_X86_R9, PERF_REG_X86_R10,
        PERF_REG_X86_R11, PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14, PERF_REG_X86_R15}) {
    std::vector<uint64_t> values(PERF_REG_X86_R15 + 1, kGarbage);
    values[PERF_REG_X86_SP] = kStack;
    values[PERF_REG_X86_IP] = code + 8;
    values[number] = kStack + 24;
    const pmu::Registers registers{.abi = PERF_SAMPLE_REGS_ABI_64,
                                   .mask = (uint64_t{1} << values.size()) - 1,
                                   .values = values};
    ips_.clear();
    EXPECT_EQ(unwinder_.Unwind(1, space_, registers, std::as_bytes(std::span(stack)), &ips_),
              kComplete)
        << number;
    EXPECT_EQ(ips_, std::vector<uint64_t>{caller}) << number;
    code += 16;
  }
}

TEST_F(DwarfUnwinderTest, ManyProcessesTakeTurns) {
  Captured captured;
  Even(4, &captured);
  const pmu::Registers registers = captured.registers();
  for (int round = 0; round < 2; ++round) {
    for (int32_t pid = 1; pid <= static_cast<int32_t>(DwarfUnwinder::kMaxCached) + 20; ++pid) {
      ips_.clear();
      ASSERT_EQ(unwinder_.Unwind(pid, space_, registers, captured.stack, &ips_), kComplete) << pid;
      ASSERT_EQ(ips_, captured.callers) << pid;
    }
  }
}

TEST_F(DwarfUnwinderTest, KnowsThreadStarts) {
  Captured in_main;
  Captured in_thread;
  Even(2, &in_main);
  std::thread([&] { Even(2, &in_thread); }).join();
  EXPECT_TRUE(unwinder_.IsThreadStart(1, space_, ProgramEntry()));
  EXPECT_TRUE(unwinder_.IsThreadStart(1, space_, in_main.callers.back() - 1));
  EXPECT_TRUE(unwinder_.IsThreadStart(1, space_, in_thread.callers.back() - 1));  // clone3
  EXPECT_NE(in_main.callers.back(), in_thread.callers.back());
  // main() and all others have callers.
  for (const Captured* captured : {&in_main, &in_thread}) {
    for (size_t i = 0; i + 1 < captured->callers.size(); ++i) {
      EXPECT_FALSE(unwinder_.IsThreadStart(1, space_, captured->callers[i] - 1)) << i;
    }
  }
  EXPECT_FALSE(unwinder_.IsThreadStart(1, space_, 0));
  EXPECT_FALSE(unwinder_.IsThreadStart(1, AddressSpace(), ProgramEntry()));
  // From the cache, and after it was emptied.
  EXPECT_TRUE(unwinder_.IsThreadStart(1, space_, ProgramEntry()));
  for (uint64_t i = 0; i <= DwarfUnwinder::kMaxThreadStarts; ++i) {
    ASSERT_FALSE(unwinder_.IsThreadStart(1, space_, 0x10 + i));
  }
  EXPECT_TRUE(unwinder_.IsThreadStart(1, space_, ProgramEntry()));
}

}  // namespace
}  // namespace lbrd::unwind
