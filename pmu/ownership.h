// Whether a process is a user's own, asked of whoever knows (daemon/process_owner.h).
#pragma once

#include <cstdint>
#include <functional>

namespace lbrd::pmu {

enum class Ownership {
  kOwn,    // all of it: what it does may be shown to the user
  kOther,  // at least in part somebody else's
  kGone,   // no such process (any more)
};

// A process's, or a thread's, as it is now. From any thread.
using OwnershipOf = std::function<Ownership(int32_t pid)>;

}  // namespace lbrd::pmu
