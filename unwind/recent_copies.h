// What the last copy of each thread's stack was unwound to, for a thread that shows the same stack
// again: one that sleeps, polls, or waits in a loop.
//
// A walk is a function of the mappings, the size of the copy, the registers and words of the copy
// that it took for frames' addresses and return addresses (WalkTrace). Where all of these are
// equal, so is the stack, whatever else on it has changed. They are compared themselves; there is
// no hash that two stacks could share.
//
// A thread that never shows the same costs a comparison of its instruction and stack pointers. Only
// when these come again is a walk traced and kept; if it is not the same the next time, they have
// to come again twice as often before the next attempt, up to 64 times.
//
// Memory: 1,024 threads of 192 bytes, and kMaxBytes for words and frames; all are forgotten beyond
// that. Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pmu/record.h"
#include "unwind/fast_unwinder.h"
#include "unwind/stack.h"

namespace lbrd::unwind {

class RecentCopies {
 public:
  static constexpr unsigned kThreadsLog2 = 10;
  static constexpr size_t kThreads = size_t{1} << kThreadsLog2;
  static constexpr size_t kMaxBytes = size_t{8} << 20;

  struct Unwound {
    std::vector<UnwoundFrame> frames;
    Verdict verdict;
  };

  RecentCopies() : threads_(kThreads) {}

  // What an equal copy of that thread was unwound to; nullptr: it is to be unwound. `generation`:
  // of its address space. `registers` hold IP and SP, or nothing is known.
  const Unwound* Find(int32_t tid, uint64_t generation, const pmu::Registers& registers,
                      std::span<const std::byte> stack);
  // What Find() was asked for last, and did not find, is worth a traced walk and a Put().
  bool wants() const { return wanted_ != nullptr; }
  // It was unwound to this.
  void Put(const WalkTrace& trace, std::span<const UnwoundFrame> frames, const Verdict& verdict);

  uint64_t found() const { return found_; }

 private:
  struct Thread {
    // These are all that most samples touch.
    int32_t tid = -1;
    bool kept = false;      // trace and unwound are of this instruction and stack pointer
    uint8_t skip = 0;       // so often they are passed over
    uint8_t next_skip = 0;  // and after the next failure
    uint64_t generation = 0;
    uint64_t stack_bytes = 0;  // of the whole copy
    uint64_t ip = 0;
    uint64_t sp = 0;

    WalkTrace trace;
    Unwound unwound;
  };

  static size_t BytesOf(const Thread& thread);
  static bool Equal(const WalkTrace& trace, const pmu::Registers& registers,
                    std::span<const std::byte> stack);
  void Clear();

  std::vector<Thread> threads_;
  Thread* wanted_ = nullptr;
  // Where IP and SP stand among the registers of this mask, which is the same for all of an event.
  uint64_t mask_ = 0;
  size_t ip_at_ = 0;
  size_t sp_at_ = 0;
  size_t bytes_ = 0;
  uint64_t found_ = 0;
};

}  // namespace lbrd::unwind
