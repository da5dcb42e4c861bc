#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace demo {

// Keeps the workers in step: nobody is more than kLead rounds ahead of the slowest, and all stop
// after the same round. So each thread's share of the program's CPU time is what the rounds say,
// however the kernel schedules them. The lead keeps every thread busy meanwhile. Any thread may
// call anything.
class RoundGate {
 public:
  static constexpr int64_t kLead = 16;

  explicit RoundGate(int workers) : finished_(static_cast<size_t>(workers), 0) {}

  // Called by a worker that has finished its round; waits until it may start the next one. False:
  // stop now.
  bool FinishRound(int worker);
  // Lets every worker reach the round that the fastest is in, and no further.
  void Stop();
  // Rounds that the slowest worker has finished.
  int64_t rounds() const;

 private:
  int64_t Slowest() const;

  mutable std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<int64_t> finished_;
  int64_t last_ = INT64_MAX;
};

}  // namespace demo
