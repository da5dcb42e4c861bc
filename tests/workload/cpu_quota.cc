#include "tests/workload/cpu_quota.h"

#include <time.h>

#include <algorithm>
#include <atomic>

namespace demo {
namespace {

constexpr int64_t kChunkNs = 50'000;
constexpr int64_t kMaxIterations = 10'000'000;

// CPU time that signal handlers of this thread have used. Volatile: a handler changes it between
// any two instructions.
thread_local volatile int64_t hidden_ns = 0;

int64_t ThreadCpuNs() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The clock is read first: a handler that runs between the two reads then makes the result too
// small, which the next read puts right; the other order would end a quota early.
int64_t VisibleCpuNs() {
  const int64_t now = ThreadCpuNs();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return now - hidden_ns;
}

}  // namespace

void CpuQuota::Grant(int64_t nanoseconds) {
  granted_ns_ += nanoseconds;
  checked_at_ns_ = VisibleCpuNs();
  taken_ = 0;
}

uint64_t CpuQuota::Take() {
  const int64_t now = VisibleCpuNs();
  const int64_t elapsed = now - checked_at_ns_;
  checked_at_ns_ = now;
  spent_ns_ += elapsed;
  if (taken_ > 0 && elapsed > 0) {
    // Halved steps, so that one odd chunk (a page fault, a signal's delivery) does not set the next
    // one's length.
    const double seen = static_cast<double>(elapsed) / static_cast<double>(taken_);
    ns_per_iteration_ = std::max(0.05, (ns_per_iteration_ + seen) / 2);
  }
  const int64_t left = granted_ns_ - spent_ns_;
  if (left <= 0) {
    taken_ = 0;
    return 0;
  }
  const double chunk = static_cast<double>(std::min(left, kChunkNs));
  taken_ = std::clamp<int64_t>(static_cast<int64_t>(chunk / ns_per_iteration_), 1, kMaxIterations);
  return static_cast<uint64_t>(taken_);
}

SignalScope::SignalScope() : entered_at_ns_(ThreadCpuNs()), hidden_before_ns_(hidden_ns) {}

SignalScope::~SignalScope() { hidden_ns = hidden_before_ns_ + (ThreadCpuNs() - entered_at_ns_); }

}  // namespace demo
