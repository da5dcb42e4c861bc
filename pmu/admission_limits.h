// What this machine has of the scarce hardware that admission gives out.
#pragma once

#include <cstdint>

#include "pmu/kernel.h"

namespace lbrd::pmu {

struct AdmissionLimits {
  int32_t cpus = 1;     // possible CPUs: 0 to cpus - 1, whether online or not
  int breakpoints = 4;  // of each CPU: four on x86
  int counters = 0;     // general ones, of each CPU; 0: not known, so that all fit
};

// CPUs by sysfs. Counters by CPUID 0xA, which Intel has and AMD has not, and which says 0 where a
// hypervisor keeps the PMU to itself; at most SlotHistogram::kMaxSlots.
AdmissionLimits DetectAdmissionLimits(Kernel& kernel);

}  // namespace lbrd::pmu
