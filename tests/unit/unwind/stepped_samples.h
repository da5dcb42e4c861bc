// Samples of the test's own thread, as perf would take them: registers and a copy of the stack,
// taken while a function runs one instruction at a time (the processor's trap flag).
//
// So every kind of place is met: prologues, epilogues, PLT entries, the vdso, system libraries.
// x86-64 alone. One recording at a time, of the thread that asks.
#pragma once

#include <asm/perf_regs.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "pmu/record.h"
#include "tests/unit/unwind/live_process.h"

namespace lbrd::unwind {

inline uint64_t EndOfLiveMappingAt(uint64_t address) {
  uint64_t end = address;
  ForEachLiveMapping([&](const LiveMapping& m) {
    if (m.start <= address && address < m.end) end = m.end;
  });
  return end;
}

class SteppedSamples {
 public:
  static constexpr size_t kRegisters = 17;
  // Sanitizers' code may not be stepped through: it loses its own state.
#if defined(LBRD_ASAN) || defined(LBRD_TSAN)
  static constexpr bool kMayStep = false;
#else
  static constexpr bool kMayStep = true;
#endif

  struct Sample {
    uint64_t values[kRegisters];  // in the order of perf_regs.h's numbers below
    std::span<const std::byte> stack;

    pmu::Registers registers() const {
      constexpr uint64_t kGeneral = 0x1ff;  // AX, BX, CX, DX, SI, DI, BP, SP, IP
      constexpr uint64_t kHigh = 0xff0000;  // R8 to R15
      return {.abi = PERF_SAMPLE_REGS_ABI_64, .mask = kGeneral | kHigh, .values = values};
    }
    uint64_t ip() const { return values[8]; }
  };

  // Runs `work` and keeps a sample of every `every`th instruction, at most `max_samples` with at
  // most `max_stack` bytes of stack each.
  void Record(const std::function<void()>& work, size_t every, size_t max_samples,
              size_t max_stack) {
    bytes_.resize(max_samples * max_stack);
    samples_.reserve(max_samples);
    every_ = every;
    max_samples_ = max_samples;
    max_stack_ = max_stack;
    stack_end_ = EndOfLiveMappingAt(reinterpret_cast<uint64_t>(__builtin_frame_address(0)));
    struct sigaction action = {};
    action.sa_sigaction = OnStep;
    action.sa_flags = SA_SIGINFO;
    struct sigaction before;
    current_ = this;
    sigaction(SIGTRAP, &action, &before);
    Step(true);
    work();
    Step(false);
    sigaction(SIGTRAP, &before, nullptr);
    current_ = nullptr;
  }

  // From here on, while recording. Signal handlers begin without.
  [[gnu::always_inline]] static void Step(bool on) {
    if (current_ == nullptr) return;
    // Below the red zone, which the compiler may be using.
    if (on) {
      asm volatile("sub $128, %%rsp; pushf; orl $0x100, (%%rsp); popf; add $128, %%rsp" ::
                       : "memory", "cc");
    } else {
      asm volatile("sub $128, %%rsp; pushf; andl $~0x100, (%%rsp); popf; add $128, %%rsp" ::
                       : "memory", "cc");
    }
  }

  const std::vector<Sample>& samples() const { return samples_; }
  uint64_t instructions() const { return instructions_; }

 private:
  // Calls nothing that the stepped code may be in the middle of.
  static void OnStep(int, siginfo_t*, void* context) {
    SteppedSamples& self = *current_;
    if (self.instructions_++ % self.every_ != 0 || self.samples_.size() == self.max_samples_) {
      return;
    }
    const auto& r = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    constexpr int kOrder[kRegisters] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
                                        REG_RBP, REG_RSP, REG_RIP, REG_R8,  REG_R9,  REG_R10,
                                        REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    Sample sample;
    for (size_t i = 0; i < kRegisters; ++i) sample.values[i] = static_cast<uint64_t>(r[kOrder[i]]);
    const uint64_t sp = static_cast<uint64_t>(r[REG_RSP]);
    if (sp >= self.stack_end_) return;
    const size_t size = std::min<uint64_t>(self.stack_end_ - sp, self.max_stack_);
    std::byte* copy = self.bytes_.data() + self.samples_.size() * self.max_stack_;
    const volatile auto* from = reinterpret_cast<const volatile uint64_t*>(sp);
    for (size_t i = 0; i + 8 <= size; i += 8) {
      const uint64_t word = from[i / 8];
      __builtin_memcpy(copy + i, &word, 8);
    }
    sample.stack = {copy, size / 8 * 8};
    self.samples_.push_back(sample);  // reserved: no allocation
  }

  inline static SteppedSamples* current_ = nullptr;
  std::vector<std::byte> bytes_;
  std::vector<Sample> samples_;
  size_t every_ = 1;
  size_t max_samples_ = 0;
  size_t max_stack_ = 0;
  uint64_t stack_end_ = 0;
  uint64_t instructions_ = 0;
};

}  // namespace lbrd::unwind
