#include "tests/workload/round_gate.h"

#include <algorithm>

namespace demo {

bool RoundGate::FinishRound(int worker) {
  std::unique_lock lock(mutex_);
  const int64_t mine = ++finished_[static_cast<size_t>(worker)];
  moved_.notify_all();
  moved_.wait(lock, [&] { return mine >= last_ || mine < Slowest() + kLead; });
  return mine < last_;
}

void RoundGate::Stop() {
  const std::lock_guard lock(mutex_);
  // The fastest worker is inside the round after those it has finished.
  last_ = *std::max_element(finished_.begin(), finished_.end()) + 1;
  moved_.notify_all();
}

int64_t RoundGate::rounds() const {
  const std::lock_guard lock(mutex_);
  return Slowest();
}

int64_t RoundGate::Slowest() const { return *std::min_element(finished_.begin(), finished_.end()); }

}  // namespace demo
