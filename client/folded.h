// Folded stacks: one line a stack, "comm;outermost;…;leaf value", as flame graph tools read them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/profile_index.h"

namespace lbrd::client {

// Sorted, equal stacks merged. The value is the weight. A stack that is not complete has its
// verdict as its outermost frame ("[truncated: stack_copy_ended]"). ';' in a name becomes ':'.
// kNotFound: the event has no samples.
absl::StatusOr<std::string> RenderFolded(const ProfileIndex& index, uint32_t event = 0);

}  // namespace lbrd::client
