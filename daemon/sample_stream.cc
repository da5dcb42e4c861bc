#include "daemon/sample_stream.h"

#include <algorithm>
#include <iterator>

namespace lbrd::daemon {

void SampleStream::Push(std::span<const Sample> samples) {
  absl::MutexLock lock(&mutex_);
  if (patient_) {
    const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return samples_.size() < kMaxSamples || cancelled_;
    };
    mutex_.Await(absl::Condition(&room));
  }
  if (cancelled_) return;
  // A patient stream may go over its bound by the one batch that is being pushed.
  const size_t taken =
      patient_ ? samples.size() : std::min(samples.size(), kMaxSamples - samples_.size());
  samples_.insert(samples_.end(), samples.begin(), samples.begin() + static_cast<ptrdiff_t>(taken));
  dropped_ += samples.size() - taken;
}

bool SampleStream::Pop(absl::Duration max_delay, std::vector<Sample>* samples) {
  samples->clear();
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return samples_.size() >= kBatchSamples || ended_ || cancelled_;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), max_delay);
  if (cancelled_) return false;
  if (samples_.size() <= kBatchSamples) {
    samples->swap(samples_);
  } else {
    const auto end = samples_.begin() + kBatchSamples;
    samples->assign(std::make_move_iterator(samples_.begin()), std::make_move_iterator(end));
    samples_.erase(samples_.begin(), end);
  }
  return !samples->empty() || !ended_;
}

void SampleStream::End() {
  absl::MutexLock lock(&mutex_);
  ended_ = true;
}

void SampleStream::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  samples_.clear();
}

uint64_t SampleStream::dropped() const {
  absl::MutexLock lock(&mutex_);
  return dropped_;
}

}  // namespace lbrd::daemon
