// Hybrid CPUs: performance and efficiency cores have a PMU each, and an event counts on one of them
// only. From what was asked for once, the attrs that together count it everywhere.
//
// A generic event (cycles) names its PMU in the high 32 bits of config (Linux 5.13). An event of
// one core type's own PMU, or a raw code, which means another thing on every PMU, counts on that
// core type alone: elsewhere there is none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pmu/abi.h"
#include "pmu/kernel.h"

namespace lbrd::pmu {

struct CoreType {
  std::string name;   // "cpu_core", "cpu_atom", "cpu_lowpower"
  uint32_t type = 0;  // perf_event_attr::type of its PMU
  std::vector<int32_t> cpus;
};

class CoreTypes {
 public:
  // From /sys/devices/cpu_*/{type,cpus}. A machine with one kind of core has none of them.
  static CoreTypes Read(Kernel& kernel);

  bool hybrid() const { return types_.size() > 1; }
  const std::vector<CoreType>& types() const { return types_; }
  // The event's attr on this CPU; nullopt: the CPU's PMU does not count it.
  std::optional<perf_event_attr> OnCpu(const perf_event_attr& attr, int32_t cpu) const;
  // The attrs that together count it for a thread, wherever it runs; at least one.
  std::vector<perf_event_attr> OnAnyCpu(const perf_event_attr& attr) const;

 private:
  std::vector<CoreType> types_;
};

}  // namespace lbrd::pmu
