// Event names -> the kernel's codes, by libpfm4; breakpoints by breakpoint_name.h.
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
  uint64_t config1 = 0;          // of a breakpoint: its address
  uint64_t config2 = 0;          // of a breakpoint: its length in bytes
  uint32_t breakpoint_type = 0;  // HW_BREAKPOINT_…: what is waited for
  bool exclude_user = false;     // from modifiers such as ":u" and ":k"
  bool exclude_kernel = false;
  std::string unit;  // what one unit of the event is: "ns", "hits", or the event's name

  bool software() const { return type == PERF_TYPE_SOFTWARE; }
  bool breakpoint() const { return type == PERF_TYPE_BREAKPOINT; }
  // cpu-clock and task-clock: sampled by a timer, counted in ns.
  bool clock() const;
};

// Looks `name` up in libpfm4's tables: "cycles", "cpu-clock", "BR_INST_RETIRED:NEAR_TAKEN",
// "perf_raw::r01c4", with modifiers ("cycles:u"); or a breakpoint: "mem:0x7ffe1230/8:rw".
// kNotFound: no such event on this machine, with names that do exist. kInvalidArgument: a
// breakpoint that cannot be. Thread-safe.
absl::StatusOr<EventCode> FindEvent(const std::string& name);

}  // namespace lbrd::pmu
