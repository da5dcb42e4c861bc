#include "unwind/recent_copies.h"

#include <asm/perf_regs.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace lbrd::unwind {
namespace {

constexpr uint8_t kMostSkipped = 64;

}  // namespace

size_t RecentCopies::BytesOf(const Thread& thread) {
  return thread.trace.registers.capacity() * sizeof(WalkTrace::Register) +
         thread.trace.words.capacity() * sizeof(WalkTrace::Word) +
         thread.unwound.frames.capacity() * sizeof(UnwoundFrame);
}

bool RecentCopies::Equal(const WalkTrace& trace, const pmu::Registers& registers,
                         std::span<const std::byte> stack) {
  for (const WalkTrace::Register& reg : trace.registers) {
    if (registers.Get(reg.perf_register) != reg.value) return false;
  }
  uint64_t differ = 0;
  for (const WalkTrace::Word& word : trace.words) {
    uint64_t value;
    std::memcpy(&value, stack.data() + word.offset, sizeof(value));
    differ |= value ^ word.value;
  }
  return differ == 0;
}

const RecentCopies::Unwound* RecentCopies::Find(int32_t tid, uint64_t generation,
                                                const pmu::Registers& registers,
                                                std::span<const std::byte> stack) {
  wanted_ = nullptr;
  if (registers.mask != mask_) {
    constexpr uint64_t kIp = uint64_t{1} << PERF_REG_X86_IP;
    constexpr uint64_t kSp = uint64_t{1} << PERF_REG_X86_SP;
    if ((registers.mask & kIp) == 0 || (registers.mask & kSp) == 0) return nullptr;
    mask_ = registers.mask;
    ip_at_ = static_cast<size_t>(std::popcount(mask_ & (kIp - 1)));
    sp_at_ = static_cast<size_t>(std::popcount(mask_ & (kSp - 1)));
  }
  if (std::max(ip_at_, sp_at_) >= registers.values.size()) return nullptr;
  const uint64_t ip = registers.values[ip_at_];
  const uint64_t sp = registers.values[sp_at_];
  constexpr uint32_t kGolden = 0x9e3779b9;
  Thread& thread = threads_[(static_cast<uint32_t>(tid) * kGolden) >> (32 - kThreadsLog2)];
  if (thread.ip != ip || thread.sp != sp || thread.tid != tid || thread.generation != generation ||
      thread.stack_bytes != stack.size()) {
    if (thread.tid != tid) thread.skip = thread.next_skip = 0;
    thread.tid = tid;
    thread.kept = false;
    thread.generation = generation;
    thread.stack_bytes = stack.size();
    thread.ip = ip;
    thread.sp = sp;
    return nullptr;
  }
  if (thread.kept) {
    if (Equal(thread.trace, registers, stack)) {
      thread.next_skip = 0;
      ++found_;
      return &thread.unwound;
    }
    thread.kept = false;
    thread.next_skip =
        std::min<uint8_t>(kMostSkipped, static_cast<uint8_t>(2 * thread.next_skip + 1));
    thread.skip = thread.next_skip;
    return nullptr;
  }
  if (thread.skip > 0) {
    --thread.skip;
    return nullptr;
  }
  wanted_ = &thread;
  return nullptr;
}

void RecentCopies::Put(const WalkTrace& trace, std::span<const UnwoundFrame> frames,
                       const Verdict& verdict) {
  Thread& thread = *wanted_;
  if (!trace.whole) {
    thread.skip = thread.next_skip = kMostSkipped;
    return;
  }
  bytes_ -= BytesOf(thread);
  thread.trace = trace;
  thread.unwound.frames.assign(frames.begin(), frames.end());
  thread.unwound.verdict = verdict;
  thread.kept = true;
  bytes_ += BytesOf(thread);
  if (bytes_ > kMaxBytes) Clear();
}

void RecentCopies::Clear() {
  for (Thread& thread : threads_) thread = Thread();
  wanted_ = nullptr;
  bytes_ = 0;
}

}  // namespace lbrd::unwind
