// Where a window of the LBR continues in what is remembered of its task's stack, by content.
//
// The stack of a moment ago and the one of now share their older calls, up to where the thread
// has not returned since. A window's oldest calls stand among these if they are found in the
// history, with equal `from` and `to`, in the same order; what is below them there is below the
// window now. Architectural LBR has no index that would tell where; legacy LBR's index
// (modulo the depth) tells which of several places it can be.
//
// Finding a place is not knowing that nothing below it has changed: see
// docs/design/lbr-stitching.md for what makes a joint sure.
// Cost: |history| comparisons, and |window| more for each place. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/strings/string_view.h"
#include "unwind/call_history.h"

namespace lbrd::unwind {

struct Joint {
  enum class Kind : uint8_t {
    kNone,       // the window's oldest calls are not in the history
    kOnly,       // there is one place
    kByIndex,    // there are several, of which the hardware's index allows one
    kAmbiguous,  // there are several, or there may be: the window repeats itself
  };
  Kind kind = Kind::kNone;
  size_t below = 0;    // history[below] is the youngest call that is older than the window
  size_t overlap = 0;  // calls of the window that are in the history as well
};

// At least this many of a window's oldest calls must be in the history.
inline constexpr size_t kLeastOverlap = 2;

// How far the top of stack has moved between history and window, on hardware that tells:
// (now - then) modulo `depth`.
struct IndexShift {
  uint32_t shift = 0;
  uint32_t depth = 0;
};

// Leaf first, both.
Joint FindJoint(std::span<const Call> history, std::span<const Call> window,
                std::optional<IndexShift> index);

}  // namespace lbrd::unwind
