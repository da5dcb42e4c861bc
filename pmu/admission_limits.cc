#include "pmu/admission_limits.h"

#include <cpuid.h>

#include <algorithm>

#include "pmu/cpu_list.h"
#include "pmu/slot_histogram.h"

namespace lbrd::pmu {
namespace {

constexpr char kPossible[] = "/sys/devices/system/cpu/possible";

int GeneralCounters() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(0xA, &eax, &ebx, &ecx, &edx) == 0 || (eax & 0xff) == 0) return 0;
  return std::min(static_cast<int>(eax >> 8 & 0xff), SlotHistogram::kMaxSlots);
}

}  // namespace

AdmissionLimits DetectAdmissionLimits(Kernel& kernel) {
  AdmissionLimits limits{.cpus = kMaxCpu + 1};  // more than needed, where sysfs is not to be had
  const absl::StatusOr<std::string> text = kernel.ReadFile(kPossible, 65536);
  if (text.ok()) {
    const absl::StatusOr<std::vector<int32_t>> cpus = ParseCpuList(*text);
    if (cpus.ok() && !cpus->empty()) limits.cpus = cpus->back() + 1;
  }
  limits.counters = GeneralCounters();
  return limits;
}

}  // namespace lbrd::pmu
