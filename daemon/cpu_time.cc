#include "daemon/cpu_time.h"

#include <sys/resource.h>

#include <ctime>

namespace lbrd::daemon {

absl::Duration CpuTime() {
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return absl::ZeroDuration();
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

absl::Duration CpuTimeOf(pid_t process) {
  clockid_t clock;
  timespec used;
  // 0 would be this process.
  if (process <= 0 || clock_getcpuclockid(process, &clock) != 0) return absl::ZeroDuration();
  if (clock_gettime(clock, &used) != 0) return absl::ZeroDuration();
  return absl::DurationFromTimespec(used);
}

}  // namespace lbrd::daemon
