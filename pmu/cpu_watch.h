// Which CPUs are online, and since when not.
//
// The kernel tells no reader of perf events that a CPU went: its events are taken off the CPU and
// their descriptors poll as if nothing had happened. So the list in sysfs is read again, at most
// five times a second: one small file whatever the number of CPUs, and a CPU that is noticed late
// is a gap of so much longer, which is counted. A CPU that went and came back between two looks is
// in the list all the time; it is found by its dead event (pmu/cpu_target.h).
//
// Thread rules: CpuWatch one thread; GapLog thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "pmu/kernel.h"
#include "pmu/record_source.h"

namespace lbrd::pmu {

// The CPUs that are online now, ascending.
absl::StatusOr<std::vector<int32_t>> OnlineCpus(Kernel& kernel);
// Those that are online or may come online without being added to the machine.
absl::StatusOr<std::vector<int32_t>> PresentCpus(Kernel& kernel);

class CpuWatch {
 public:
  static constexpr uint64_t kIntervalNs = 200'000'000;

  // Whether it is time to look again; then the caller looks.
  bool Due(uint64_t now);
  // The next Due() says yes.
  void Hasten() { next_ = 0; }

 private:
  uint64_t next_ = 0;
};

// Memory: kMaxGaps and kRecentGaps gaps, and 40 bytes a CPU that ever had one; others are counted
// and summed.
class GapLog {
 public:
  void Begin(int32_t cpu, uint64_t from);
  // Nothing if no gap of that CPU has begun.
  void End(int32_t cpu, uint64_t to);
  // Gaps that last are summed up to `now`; they stay without an end.
  void Stop(uint64_t now);
  // How many have ended.
  uint64_t ended() const { return ended_.load(std::memory_order_relaxed); }
  // Fills in all that SourceStats says of gaps.
  void Describe(SourceStats* out) const;

 private:
  std::atomic<uint64_t> ended_ = 0;
  mutable absl::Mutex mutex_;
  absl::btree_map<int32_t, CpuGapTotal> totals_ ABSL_GUARDED_BY(mutex_);
  std::vector<CpuGap> gaps_ ABSL_GUARDED_BY(mutex_);
  std::deque<CpuGap> recent_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::pmu
