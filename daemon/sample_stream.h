// One client's queue of samples, bounded in bytes, and by what is left of the memory of all samples
// (daemon/sample_memory.h); but two batches always have room, so that a client that keeps up gets
// all, whatever others hold.
//
// A client that reads too slowly loses its own newest samples, counted, and delays nobody. Where
// the source is patient (a recording), the pushing worker waits for the client instead.
//
// Thread rules: Push() from any worker, Pop() from the one thread that serves the client, the rest
// from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/sample.h"

namespace lbrd::daemon {

class SampleStream {
 public:
  // 8 MiB of samples; what they refer to is shared, but for branches, which count (RoomOf()).
  static constexpr size_t kMaxSamples = (size_t{8} << 20) / sizeof(Sample);
  // Enough for a message of about 64 KiB; of samples with branches fewer.
  static constexpr size_t kBatchSamples = 4096;

  explicit SampleStream(bool patient, MemoryShare share = MemoryShare::kWhole)
      : patient_(patient), share_(share) {}

  void Push(std::span<const Sample> samples);
  // Waits for a full batch, or `max_delay` for a smaller one; *samples may stay empty. False: ended
  // (or cancelled) and everything was taken.
  bool Pop(absl::Duration max_delay, std::vector<Sample>* samples);
  // No more will come.
  void End();
  // The client is gone: nothing is kept, nobody waits.
  void Cancel();
  uint64_t dropped() const;

 private:
  size_t MaxRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetRoom(size_t room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const bool patient_;
  const MemoryShare share_;
  mutable absl::Mutex mutex_;
  std::vector<Sample> samples_ ABSL_GUARDED_BY(mutex_);
  size_t room_ ABSL_GUARDED_BY(mutex_) = 0;  // that they take
  MemoryCharge memory_ ABSL_GUARDED_BY(mutex_);
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lbrd::daemon
