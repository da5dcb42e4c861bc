#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace demo {

inline constexpr int64_t kChildPeriodMs = 100;
inline constexpr int64_t kChildWorkMs = 20;

// Starts this program again as a short-lived child (`--child`) and collects what has ended. One
// thread uses it.
class Children {
 public:
  // At most kMaxAlive at once: on a machine too busy to run them they must not pile up.
  static constexpr size_t kMaxAlive = 8;

  void Start();
  void Reap();
  // Waits for all that are left; each ends by itself within kChildWorkMs of CPU time.
  void ReapAll();

  int64_t started() const { return started_; }
  // User and system CPU time of those that have ended.
  int64_t cpu_ns() const { return cpu_ns_; }

 private:
  bool ReapOne(pid_t pid, int options);

  std::vector<pid_t> alive_;
  int64_t started_ = 0;
  int64_t cpu_ns_ = 0;
};

// What `demo --child` does.
int ChildMain();

}  // namespace demo
