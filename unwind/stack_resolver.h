// A sample -> its stack: kernel frames, the interrupted user instruction, and the user frames of
// whatever source the sample carries; with a verdict.
//
// Thread rules: one owner. Allocation: only into the caller's ResolvedStack, which is reused.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "pmu/record.h"
#include "unwind/dwarf_unwinder.h"
#include "unwind/fast_unwinder.h"
#include "unwind/process_table.h"
#include "unwind/stack.h"

namespace lbrd::unwind {

struct ResolvedFrame {
  uint64_t ip = 0;       // as recorded
  uint64_t look_up = 0;  // the address to name: before a return address, else ip itself
  FrameSource source = FrameSource::kKernel;
};

struct ResolvedStack {
  std::vector<ResolvedFrame> frames;  // leaf first
  Verdict verdict;
  bool has_user = false;  // the sampled task had a user mode (a kernel thread has none)
  // The user part is yet to come: the kernel's answer to this cookie.
  bool deferred = false;
  uint64_t cookie = 0;
  void Clear();
};

// How an event's samples are to be read.
struct ResolveOptions {
  bool lbr_call_stack = false;  // the branch stack is a call stack, not a branch history
  uint32_t lbr_depth = 0;       // 0: unknown
  uint16_t machine = 62;        // ELF machine of registers and code; 62: x86-64
};

class StackResolver {
 public:
  // Borrows `tables`, which workers share; with none it has its own.
  explicit StackResolver(RuleTables* tables = nullptr)
      : own_tables_(tables == nullptr ? std::make_unique<RuleTables>() : nullptr),
        fast_(tables == nullptr ? own_tables_.get() : tables) {}

  void Resolve(const pmu::SampleRecord& sample, const ResolveOptions& options,
               const Process& process, ResolvedStack* out);

  // Completes a deferred stack with the kernel's answer; with no answer, says that it is missing.
  void CompleteDeferred(std::span<const uint64_t> ips, const Process& process, ResolvedStack* out);
  static void DeferredMissing(ResolvedStack* out);

  const FastUnwinder::Counts& unwind_counts() const { return fast_.counts(); }

 private:
  // The user part of the kernel's chain. False: it holds none.
  bool AddUserChain(std::span<const uint64_t> user, FrameSource source, const Process& process,
                    ResolvedStack* out);

  // Frames from the sample's registers and copy of the stack.
  void UnwindCopy(const pmu::SampleRecord& sample, const Process& process, ResolvedStack* out);

  const std::unique_ptr<RuleTables> own_tables_;
  FastUnwinder fast_;
  DwarfUnwinder dwarf_;  // for rules that fast_ does not understand
  std::vector<UnwoundFrame> unwound_;
  std::vector<uint64_t> ips_;
};

}  // namespace lbrd::unwind
