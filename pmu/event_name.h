// Event names -> the kernel's codes, by libpfm4.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "pmu/abi.h"

namespace lbrd::pmu {

struct EventCode {
  std::string name;   // as asked for
  uint32_t type = 0;  // PERF_TYPE_…, or a dynamic PMU's number
  uint64_t config = 0;
  uint64_t config1 = 0;
  uint64_t config2 = 0;
  bool exclude_user = false;  // from modifiers such as ":u" and ":k"
  bool exclude_kernel = false;
  std::string unit;  // what one unit of the event is: "ns", or the event's name

  bool software() const { return type == PERF_TYPE_SOFTWARE; }
  // cpu-clock and task-clock: sampled by a timer, counted in ns.
  bool clock() const;
};

// Looks `name` up in libpfm4's tables: "cycles", "cpu-clock", "BR_INST_RETIRED:NEAR_TAKEN",
// "perf_raw::r01c4", with modifiers ("cycles:u"). kNotFound: no such event on this machine, with
// names that do exist. Thread-safe.
absl::StatusOr<EventCode> FindEvent(const std::string& name);

}  // namespace lbrd::pmu
