// How much CPU time processes have used: all their threads, those that ended among them, in user
// mode and in the kernel. Of another process its CPU clock is read (clock_getcpuclockid(3)), which
// takes no privilege, and no file of /proc.
//
// Thread rules: thread-safe.
#pragma once

#include <sys/types.h>

#include "absl/time/time.h"

namespace lbrd::daemon {

// Of this process.
absl::Duration CpuTime();
// Of another one, whose dead children do not count. 0: there is none of that number, such as -1.
absl::Duration CpuTimeOf(pid_t process);

}  // namespace lbrd::daemon
