// A session's samples on their way into the history: aggregated by stack and thread in buckets of
// time, by the samples' own times.
//
// A bucket is sealed when its time is over and everything of it has had time to come; what comes
// later still makes a bucket of its own of the same time. Buckets cover the session's whole life,
// those without samples too, so that what no bucket covers is a gap.
//
// Bounds: kMaxBytes of entries and the stacks they keep alive, and beyond ProfileTable::kLeastBytes
// what is left of the memory of all samples; samples that need more are not taken, and counted.
//
// Thread rules: Deliver() from any worker; Begin() and End() from the session; TakeNewProcesses()
// and Seal() from the storage thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "daemon/history_bucket.h"
#include "daemon/profile_table.h"
#include "daemon/worker.h"
#include "pmu/kernel.h"

namespace lbrd::daemon {

struct RecordedEvent {
  std::string name;
  std::string unit;  // of weights
};

class HistoryRecorder : public SampleSink {
 public:
  static constexpr size_t kMaxBytes = size_t{4} << 20;

  // `events`: by the samples' event. `wake`: there is something for the storage thread to do.
  HistoryRecorder(pmu::Kernel* kernel, std::string session, uint32_t owner,
                  std::vector<RecordedEvent> events, uint64_t bucket_ns,
                  std::function<void()> wake);

  // The session samples from now on. `lost`: how many of its samples never came here, so far; asked
  // until End().
  void Begin(std::function<uint64_t()> lost);
  void Deliver(std::span<const Sample> samples) override;
  // Nothing more will come.
  void End();
  bool ended() const;

  // Processes that samples came from for the first time in their bucket.
  std::vector<int32_t> TakeNewProcesses();
  // What can be stored; with `all`, everything that came, the bucket that is being filled too.
  // `unix_offset_ns`: from CLOCK_MONOTONIC to Unix time. The process of an entry is left to
  // `facts(pid, time of its first sample in the bucket)`.
  using FindFacts =
      std::function<std::shared_ptr<const ProcessOrigin>(int32_t pid, uint64_t first_ns)>;
  std::vector<HistoryBucket> Seal(bool all, int64_t unix_offset_ns, const FindFacts& facts);

 private:
  struct Bucket {
    ProfileTable::Entries sums;
    absl::flat_hash_map<int32_t, uint64_t> processes;  // pid -> its first sample's time
  };

  uint64_t BucketOf(const Sample& sample, uint64_t now_ns) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One of each event; at least one.
  void AppendBuckets(const Bucket& bucket, uint64_t begin_ns, uint64_t end_ns,
                     int64_t unix_offset_ns, const FindFacts& facts,
                     std::vector<HistoryBucket>* out) const;

  pmu::Kernel& kernel_;
  const std::string session_;
  const uint32_t owner_;
  const std::vector<RecordedEvent> events_;
  const uint64_t bucket_ns_;
  const std::function<void()> wake_;

  absl::Mutex lost_mutex_;  // held while lost_ is asked; before mutex_
  std::function<uint64_t()> lost_ ABSL_GUARDED_BY(lost_mutex_);
  uint64_t lost_at_end_ ABSL_GUARDED_BY(lost_mutex_) = 0;

  mutable absl::Mutex mutex_;
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t end_ns_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t covered_until_ns_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Bucket> open_ ABSL_GUARDED_BY(mutex_);  // by time / bucket_ns_
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  MemoryCharge memory_ ABSL_GUARDED_BY(mutex_);  // without what entries refer to
  uint64_t not_taken_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_told_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<int32_t> new_processes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
