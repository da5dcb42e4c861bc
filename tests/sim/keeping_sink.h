// Keeps all samples that it is given. Thread-safe.
#pragma once

#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/pipeline.h"

namespace lbrd::sim {

class KeepingSink : public daemon::SampleSink {
 public:
  void Deliver(std::span<const daemon::Sample> samples) override {
    absl::MutexLock lock(&mutex_);
    samples_.insert(samples_.end(), samples.begin(), samples.end());
  }
  std::vector<daemon::Sample> samples() {
    absl::MutexLock lock(&mutex_);
    return samples_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<daemon::Sample> samples_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::sim
