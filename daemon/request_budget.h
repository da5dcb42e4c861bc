// How many requests each user may make: a token bucket a user.
//
// Memory: 32 bytes a user; of those who asked nothing for a while, none. Thread-safe.
#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace lbrd::daemon {

class RequestBudget {
 public:
  // Up to twice as many at once.
  explicit RequestBudget(double per_second) : per_second_(per_second), most_(2 * per_second) {}

  // `cost`: how many ordinary requests it is worth. False: the user has to wait.
  bool Take(uint32_t uid, double cost, absl::Time now);

 private:
  struct Bucket {
    double tokens = 0;
    absl::Time at;
  };
  // Full buckets need not be kept; looked for when so many are there.
  static constexpr size_t kSweepAt = 1024;
  void Refill(absl::Time now, Bucket* bucket) const;

  const double per_second_;
  const double most_;
  absl::Mutex mutex_;  // a leaf
  absl::flat_hash_map<uint32_t, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
