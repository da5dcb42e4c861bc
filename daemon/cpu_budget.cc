#include "daemon/cpu_budget.h"

#include <algorithm>

namespace lbrd::daemon {

uint32_t CpuBudget::Next(absl::Duration used, absl::Time now, double share) {
  if (share <= 0) {
    slow_down_ = 1;
    window_began_ = absl::InfinitePast();
    return slow_down_;
  }
  if (window_began_ == absl::InfinitePast()) {
    window_began_ = now;
    used_before_ = used;
    return slow_down_;
  }
  const absl::Duration passed = now - window_began_;
  if (passed < kWindow) return slow_down_;
  const absl::Duration allowed = passed * static_cast<double>(cpus_) * (share / 100);
  double excess = absl::FDivDuration(used - used_before_, allowed);
  window_began_ = now;
  used_before_ = used;
  if (excess > 1) {
    calm_ = 0;
    for (; excess > 1 && slow_down_ < kMaxSlowDown; excess /= 2) slow_down_ *= 2;
    return slow_down_;
  }
  calm_ = excess * 2 < 0.9 ? calm_ + 1 : 0;
  if (calm_ >= kCalmWindows && slow_down_ > 1) {
    slow_down_ /= 2;
    calm_ = 0;
  }
  return slow_down_;
}

}  // namespace lbrd::daemon
