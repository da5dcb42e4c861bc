// A feed of several events: one feed for each (a share in a flow, or events of its own), whose
// samples say which event they are of.
//
// Each feed has its own kernel events and begins by itself, some microseconds after the one before.
// It ends when all have; where one ends by an error, the others are ended, and that error is told.
//
// Thread rules: as SessionFeed. Lock order: mutex_ is a leaf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "daemon/session_feed.h"

namespace lbrd::daemon {

class JoinedFeed : public SessionFeed {
 public:
  // One or more, each of one event, in the order of their numbers.
  explicit JoinedFeed(std::vector<std::unique_ptr<SessionFeed>> feeds);
  ~JoinedFeed() override;

  absl::Status Begin(absl::Duration duration, SampleSink* sink,
                     std::function<void(const absl::Status&)> done) override;
  void RequestStop() override;
  // True if any does.
  bool shares_events() const override;
  // The sums.
  FeedStats stats() const override;
  std::vector<Progress> progress() const override;
  void Describe(v1::Session* out) const override;
  // The first event's.
  absl::Status Lend(int32_t cpu,
                    const std::function<absl::Status(const pmu::LentEvent&)>& take) const override;

 private:
  // Numbers the samples of one event.
  class Outlet : public SampleSink {
   public:
    Outlet(uint32_t event, SampleSink* sink) : event_(event), sink_(sink) {}
    void Deliver(std::span<const Sample> samples) override;
    Haste haste() const override { return sink_->haste(); }

   private:
    const uint32_t event_;
    SampleSink* const sink_;
  };

  void Ended(const absl::Status& status);

  absl::Mutex mutex_;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // the first error's
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;    // it was asked for
  // Null: nobody is to be told.
  std::function<void(const absl::Status&)> done_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Outlet>> outlets_;
  // Last: they end while the rest is there.
  std::vector<std::unique_ptr<SessionFeed>> feeds_;
};

}  // namespace lbrd::daemon
