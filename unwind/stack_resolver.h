// A sample -> its stack: kernel frames, the interrupted user instruction, and the user frames of
// whatever sources the sample carries; with a verdict.
//
// A window of the LBR comes first. A copy of the stack, where there is one as well, confirms it and
// is preferred as far as it reaches, and the window continues where the copy ends. A chain of frame
// pointers, the kernel's deferred one too, continues the window where they overlap.
//
// Thread rules: one owner. Allocation: only into the caller's ResolvedStack, which is reused.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "pmu/record.h"
#include "unwind/dwarf_unwinder.h"
#include "unwind/fast_unwinder.h"
#include "unwind/lbr_stack.h"
#include "unwind/process_table.h"
#include "unwind/recent_copies.h"
#include "unwind/resolved_stack.h"

namespace lbrd::unwind {

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
        fast_(tables == nullptr ? own_tables_.get() : tables),
        lbr_(&fast_) {}

  // `history`: of the sampled task, for windows of the LBR; nullptr: not kept.
  void Resolve(const pmu::SampleRecord& sample, const ResolveOptions& options,
               const Process& process, ResolvedStack* out, TaskHistory* history = nullptr);

  // Completes a deferred stack with the kernel's answer; with no answer, says that it is missing.
  void CompleteDeferred(std::span<const uint64_t> ips, const Process& process, ResolvedStack* out);
  static void DeferredMissing(ResolvedStack* out);

  const FastUnwinder::Counts& unwind_counts() const { return fast_.counts(); }
  const LbrCounts& lbr_counts() const { return lbr_.counts(); }
  // Samples whose copy of the stack was the one before, and was not unwound again.
  uint64_t identical_copies() const { return recent_copies_.found(); }

 private:
  // The user part of the kernel's chain. False: it holds none.
  bool AddUserChain(std::span<const uint64_t> user, FrameSource source, const Process& process,
                    ResolvedStack* out);

  // The user part of a sample that carries a window of the LBR; `first` is where its frames begin.
  void ResolveLbr(const pmu::SampleRecord& sample, const ResolveOptions& options,
                  const Process& process, std::optional<uint64_t> user_ip,
                  std::span<const uint64_t> user_chain, TaskHistory* history, ResolvedStack* out);
  // Puts what the sample's copy of the stack says in the place of the LBR's frames, from
  // out->frames[first] on, as far as it reaches.
  void FuseCopy(const pmu::SampleRecord& sample, const Process& process, size_t first,
                TaskHistory* history, ResolvedStack* out);
  // Continues the LBR's frames by what a walk of frame pointers found above the sampled frame.
  void FuseReturns(std::span<const uint64_t> returns, FrameSource source, const Process& process,
                   size_t first, TaskHistory* history, ResolvedStack* out);

  // Frames from the sample's registers and copy of the stack.
  void UnwindCopy(const pmu::SampleRecord& sample, const Process& process, ResolvedStack* out);

  const std::unique_ptr<RuleTables> own_tables_;
  FastUnwinder fast_;
  DwarfUnwinder dwarf_;  // for rules that fast_ does not understand
  RecentCopies recent_copies_;
  WalkTrace trace_;
  LbrStack lbr_;
  std::vector<ResolvedFrame> lbr_frames_;
  std::vector<UnwoundFrame> unwound_;
  std::vector<uint64_t> ips_;
};

}  // namespace lbrd::unwind
