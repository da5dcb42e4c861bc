#pragma once

#include <cstdint>

// Keeps a function exactly as it is written: a profile must show it under its own name and in its
// own frame.
#if defined(__clang__)
#define DEMO_OWN_FRAME [[gnu::noinline]]
#else
#define DEMO_OWN_FRAME [[gnu::noipa]]
#endif

namespace demo {

// How much thread CPU time one function may use, and has used. The function spends it like this:
//
//   quota.Grant(250'000);
//   while (uint64_t n = quota.Take()) {
//     for (; n > 0; --n) x = ...;
//   }
//
// so that the loop, and with it the CPU time, is in the function itself: Take() reads the thread's
// CPU clock only once per chunk of about 50 us. What a chunk overshoots is taken off the next
// grant, so the sum over many grants is exact. Owned by one thread; time that a signal handler
// spends on a quota of its own (SignalScope) is not charged to the one it interrupted.
class CpuQuota {
 public:
  void Grant(int64_t nanoseconds);
  // Iterations to run now; 0 when all that was granted is spent.
  uint64_t Take();

  int64_t granted_ns() const { return granted_ns_; }
  int64_t spent_ns() const { return spent_ns_; }

 private:
  int64_t granted_ns_ = 0;
  int64_t spent_ns_ = 0;
  int64_t checked_at_ns_ = 0;
  int64_t taken_ = 0;
  double ns_per_iteration_ = 100.0;  // corrected from the first chunk on
};

// In a signal handler, around everything it does: hides its CPU time from the quota it interrupted.
class SignalScope {
 public:
  SignalScope();
  ~SignalScope();
  SignalScope(const SignalScope&) = delete;
  SignalScope& operator=(const SignalScope&) = delete;

 private:
  int64_t entered_at_ns_;
  int64_t hidden_before_ns_;
};

}  // namespace demo
