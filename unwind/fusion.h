// One stack of two accounts of it: calls that the LBR recorded, and return addresses that stood on
// the stack at the same moment. They overlap: a call of `size` bytes at `from` returns to
// from + size.
//
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/functional/function_ref.h"
#include "unwind/resolved_stack.h"

namespace lbrd::unwind {

// Whether `return_address` can be that of a call frame. Where the call's bytes could not be read,
// any length that a call can have does.
bool ReturnsFrom(const ResolvedFrame& call, uint64_t return_address);

// Where a walk of frame pointers continues `calls` (leaf first): the number of `returns` that are
// returns from calls of `calls`, the last of them from the oldest one. The walk may have missed
// the youngest calls, of functions that had no frame yet or never have one, and no others:
// `missed` says how many, if that is known; it is asked where the walk fits anywhere. nullopt: it
// does not fit, or at several places, as in recursion.
std::optional<size_t> FindOverlap(std::span<const ResolvedFrame> calls,
                                  std::span<const uint64_t> returns,
                                  absl::FunctionRef<std::optional<size_t>()> missed);

}  // namespace lbrd::unwind
