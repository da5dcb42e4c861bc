// Clocks that a benchmark reads, and what its measurements come to. All inline: a call beside what
// is measured would be measured too.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <vector>

namespace lbrd::daemon {

inline uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Of the calling thread: what it did, without the time in which others had the CPU.
inline uint64_t CpuNow() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// How often the calling thread lost the CPU to others.
inline long Preemptions() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// `part`: 0.5 is the median. Reorders the values.
inline double Percentile(std::vector<double>& values, double part) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
  return values[at];
}

// All in ns.
struct Waits {
  double p50 = 0;
  double p99 = 0;
  double p999 = 0;
  double max = 0;
  size_t count = 0;
};

inline Waits WaitsOf(std::vector<double> ns) {
  return {Percentile(ns, 0.5), Percentile(ns, 0.99), Percentile(ns, 0.999), Percentile(ns, 1),
          ns.size()};
}

}  // namespace lbrd::daemon
