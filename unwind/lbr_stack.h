// A window of the LBR -> the calls of the sampled task's stack: validated, continued by what
// earlier windows of the task held, and judged.
//
// Memory: the validator's tables, 256 KiB for callers, and one history. Thread rules: one owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pmu/record.h"
#include "unwind/caller_table.h"
#include "unwind/lbr_stitch.h"
#include "unwind/lbr_validation.h"
#include "unwind/resolved_stack.h"

namespace lbrd::unwind {

struct LbrCounts {
  std::array<uint64_t, kWindowFindings> windows{};  // by WindowFinding
};

class LbrStack {
 public:
  // Borrows `unwinder`.
  explicit LbrStack(FastUnwinder* unwinder) : validator_(unwinder) {}

  struct Sample {
    const pmu::BranchStack& window;
    uint32_t depth = 0;               // how many entries the hardware holds; 0: unknown
    std::optional<uint64_t> user_ip;  // where user mode was
    bool in_kernel = false;           // the sample was taken in the kernel
    uint64_t time_ns = 0;
  };

  // Appends the frames of a window, and of what it continues, to *out, and judges it. `history`
  // may be nullptr. It is brought up to date by Remember(), once nothing contradicted the stack.
  void Resolve(const AddressSpace& space, const Sample& sample, TaskHistory* history,
               ResolvedStack* out);

  // What was resolved last becomes the task's history.
  void Remember(TaskHistory* history) {
    if (history != nullptr && remember_) history->Store(now_);
  }
  // Another account of the same stack contradicts what was resolved last: nothing is remembered.
  void Refute(TaskHistory* history);

  const LbrCounts& counts() const { return counts_; }

 private:
  // Verdict of the window alone.
  Verdict Judge(const Sample& sample) const;
  // Appends what the history has below the window.
  void Stitch(const AddressSpace& space, const Sample& sample, TaskHistory* history,
              ResolvedStack* out);
  // How many of the history's calls from `first` on, the one that led to `function` and older ones,
  // are the only ones that were ever seen to lead where they do.
  size_t CountSure(const AddressSpace& space, size_t first, uint64_t function);
  // Where the only activation of `function` in the history was called; nullopt: there is none, or
  // there are several.
  std::optional<size_t> FindActivation(const AddressSpace& space, uint64_t function);
  // The calls that alone lead to `function`, from the thread's start on, into past_. False: they
  // are not all known; past_ is as it was.
  bool InferCallers(const AddressSpace& space, uint64_t function);
  bool IsSureCaller(const AddressSpace& space, uint64_t function, const Call& call);

  LbrValidator validator_;
  CallerTable callers_;
  CheckedWindow window_;
  CallHistory past_;  // the task's, as it was loaded
  CallHistory now_;   // what the last sample showed
  std::vector<Call> inferred_;
  bool remember_ = false;   // now_ is to be the task's history
  bool has_index_ = false;  // an index other than 0 was seen: the hardware has one
  LbrCounts counts_;
};

}  // namespace lbrd::unwind
