#include "daemon/request_budget.h"

#include <algorithm>

namespace lbrd::daemon {

void RequestBudget::Refill(absl::Time now, Bucket* bucket) const {
  // Clocks are set back now and then.
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - bucket->at));
  bucket->tokens = std::min(most_, bucket->tokens + seconds * per_second_);
  bucket->at = now;
}

bool RequestBudget::Take(uint32_t uid, double cost, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  if (buckets_.size() >= kSweepAt) {
    for (auto i = buckets_.begin(); i != buckets_.end();) {
      Refill(now, &i->second);
      const auto full = i->second.tokens >= most_ ? i : buckets_.end();
      ++i;
      if (full != buckets_.end()) buckets_.erase(full);
    }
  }
  const auto [found, is_new] = buckets_.try_emplace(uid, Bucket{.tokens = most_, .at = now});
  if (!is_new) Refill(now, &found->second);
  if (found->second.tokens < cost) return false;
  found->second.tokens -= cost;
  return true;
}

}  // namespace lbrd::daemon
