// A kernel whose rings are locked in memory by somebody whom no limit binds.
#pragma once

namespace lbrd::pmu {

// Beside Kernel, by implementations that may be so.
class RingLocking {
 public:
  virtual ~RingLocking() = default;
  // Whether neither RLIMIT_MEMLOCK nor kernel.perf_event_mlock_kb of this process counts for rings.
  virtual bool unbound() const = 0;
};

}  // namespace lbrd::pmu
