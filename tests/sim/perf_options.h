// What the simulated kernel and its hardware can do. Defaults: Linux 6.19 on a CPU with a 32-deep
// LBR that reports its top of stack, and a caller who is root.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/sim/lbr.h"

namespace lbrd::sim {

struct PerfOptions {
  // Linux version; decides which attr bits are known, as below.
  int major = 6;
  int minor = 19;
  bool AtLeast(int want_major, int want_minor) const {
    return major > want_major || (major == want_major && minor >= want_minor);
  }
  bool knows_hw_index() const { return AtLeast(5, 7); }
  bool knows_build_ids() const { return AtLeast(5, 12); }
  bool knows_lost() const { return AtLeast(6, 0); }
  bool knows_deferred() const { return AtLeast(6, 19); }
  // sample_max_stack also caps branch entries.
  bool caps_branches() const { return AtLeast(6, 15); }
  bool inherits_with_read() const { return AtLeast(6, 12); }
  // Per-CPU events keep every task's LBR over switches; before, it is cleared at each switch-in.
  // Stable trees carry half of it: so this can be set apart from the version.
  enum class LbrSwitch : uint8_t { kByVersion, kSaved, kReset };
  LbrSwitch lbr_switch = LbrSwitch::kByVersion;
  bool saves_lbr() const {
    return lbr_switch == LbrSwitch::kByVersion ? AtLeast(6, 15) : lbr_switch == LbrSwitch::kSaved;
  }
  // Samples in the kernel just after a switch still show the previous task's branches.
  bool lbr_restored_late = false;

  bool has_pmu = true;  // false: hardware events do not exist, as in most virtual machines
  uint32_t counters = 8;
  uint8_t max_precise = 3;
  LbrKind lbr = LbrKind::kLegacy;
  uint32_t lbr_depth = 32;
  bool lbr_taken = false;  // by Intel PT or BTS: EBUSY

  uint32_t breakpoint_slots = 4;
  uint64_t max_sample_rate = 100'000;  // kernel.perf_event_max_sample_rate
  uint32_t max_stack = 127;            // kernel.perf_event_max_stack
  uint64_t tick_ns = 4'000'000;        // throttling, and turns where counters are short
  int paranoid = 2;
  bool privileged = true;
  uint64_t max_locked_bytes = UINT64_MAX;  // of all mapped rings; EPERM beyond
  size_t max_descriptors = size_t{1} << 20;
};

}  // namespace lbrd::sim
