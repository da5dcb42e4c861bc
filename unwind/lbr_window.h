// The hardware's call stack: a branch stack in call-stack mode -> frames.
//
// Entries are youngest first; `from` is the address of the call instruction itself. Facts and
// limits: docs/design/lbr.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "pmu/record.h"
#include "unwind/stack.h"

namespace lbrd::unwind {

// What an LBR window says about where its stack ends. `depth`: how many entries the hardware holds
// (0: unknown); `is_thread_start`: whether the code at an address has no caller.
Verdict JudgeLbrWindow(const pmu::BranchStack& window, uint32_t depth,
                       absl::FunctionRef<bool(uint64_t)> is_thread_start);

}  // namespace lbrd::unwind
