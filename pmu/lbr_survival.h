// Whether a thread's LBR survives being switched out, under an event of the whole CPU. Found by
// experiment, because kernel versions do not tell: 6.15 is the first that saves it, and stable
// kernels before it may carry half of that.
//
// A child with a known chain of 20 calls sleeps often at its bottom (switching_child.h), and a
// per-CPU event samples its user mode with LBR call stacks. Of each window, the calls that stand in
// it as the chain made them are counted, from the bottom up. Where LBR survives, the median is the
// whole chain, or the depth of the hardware where that is less; where it is cleared, only the
// samples before the first sleep of a descent (1 in 32) have it.
//
// Takes 1.5 s at most, and less where 200 samples come sooner; pins 256 KiB. Opens one event on one
// CPU and gives it back. Thread rules: one thread.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "pmu/abi.h"
#include "pmu/kernel.h"
#include "pmu/switching_child.h"

namespace lbrd::pmu {

struct LbrSurvival {
  uint32_t samples = 0;       // of the child
  uint32_t median_calls = 0;  // of its chain, in the windows
  uint32_t wanted_calls = 0;  // what the median is where LBR survives
  int32_t cpu = 0;
  // For how long the event was enabled, and counted. Less running: others time-share the LBR or the
  // counters.
  uint64_t enabled_ns = 0;
  uint64_t running_ns = 0;

  bool survives() const { return median_calls >= wanted_calls; }
  // A hundredth is the price of switching events, not of sharing them.
  bool time_shared() const { return running_ns < enabled_ns - enabled_ns / 100; }
  // Time-sharing empties windows just as a kernel that clears LBR does.
  bool conclusive() const { return survives() || !time_shared(); }
};

// `attr` is an LBR sampling attr that the kernel accepts, of user mode only. `lbr_depth`: the
// hardware's, 0: unknown (then 16 is assumed, the least there is). kUnavailable: too few samples to
// tell; otherwise what could not be opened.
absl::StatusOr<LbrSurvival> MeasureLbrSurvival(Kernel& kernel, const perf_event_attr& attr,
                                               uint32_t lbr_depth, SwitchingChild& child);

}  // namespace lbrd::pmu
