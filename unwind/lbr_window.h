// What the size of an LBR window says about where its stack ends. Facts and limits:
// docs/design/lbr.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "unwind/stack.h"

namespace lbrd::unwind {

// Of a window of `entries` calls none of which is the thread's start's. `depth`: how many entries
// the hardware holds (0: unknown).
Verdict JudgeLbrWindow(size_t entries, uint32_t depth);

}  // namespace lbrd::unwind
