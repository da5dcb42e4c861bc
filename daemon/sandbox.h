// What a process can still do once somebody has taken it over: the system calls of an engine at
// work, and no others.
//
// Thread rules: before the first thread starts, since threads begin with what their maker has.
#pragma once

#include "absl/status/status.h"

namespace lbrd::daemon {

// No new privileges, not dumpable (so that nobody of the same user traces it), and a seccomp
// filter. A call that is not allowed fails with EPERM. For good.
absl::Status EnterSandbox();

}  // namespace lbrd::daemon
