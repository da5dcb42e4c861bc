// Keeps the daemon within the CPU time it may use: when it is over, flows sample more slowly, in
// steps of two, and faster again when that fits. Each sample's weight says what it stands for, so
// estimates stay true (daemon/flow).
//
// The rule, once a kWindow: over the budget, the step that would have kept within it, were all cost
// proportional to the rate; back by one step when twice the present use would leave a tenth of the
// budget, and did so for kCalmWindows in a row. The first is quick since it is a promise, the
// second slow since a rate that swings helps nobody.
//
// Thread rules: a value.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace lbrd::daemon {

class CpuBudget {
 public:
  static constexpr absl::Duration kWindow = absl::Seconds(5);
  static constexpr int kCalmWindows = 3;
  static constexpr uint32_t kMaxSlowDown = 256;

  // `cpus`: of the machine.
  explicit CpuBudget(size_t cpus) : cpus_(cpus) {}

  // `used`: CPU time of the daemon, of which only the growth counts. `share`: of the machine's CPU
  // time it may use, in percent; 0: any. Returns by how much flows are to be slowed down: 1, 2, 4,
  // … kMaxSlowDown.
  uint32_t Next(absl::Duration used, absl::Time now, double share);

 private:
  const size_t cpus_;
  absl::Duration used_before_;
  absl::Time window_began_ = absl::InfinitePast();
  uint32_t slow_down_ = 1;
  int calm_ = 0;
};

}  // namespace lbrd::daemon
