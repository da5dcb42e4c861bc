// One session's share in a flow (daemon/flow.h): its filter, its rate, and its account.
//
// It begins and ends at a moment of the records' clock, drawn by the flow's reader: it has every
// sample of that time, and no other. Its account adds up exactly when it has ended.
//
// Of a user who may see own processes only it shows nothing that is not known to be theirs at the
// moment it was sampled, and nothing of who else has a share.
//
// Thread rules: as SessionFeed; what is marked so is the flow's reader's. Lock order: mutex_ is a
// leaf.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/planner.h"
#include "daemon/session_feed.h"
#include "daemon/session_filter.h"
#include "daemon/thinning.h"
#include "pmu/owner_filter.h"
#include "pmu/record_source.h"

namespace lbrd::daemon {

class Flow;

class FlowShare : public SessionFeed, public Subscriber {
 public:
  ~FlowShare() override;

  absl::Status Begin(absl::Duration duration, SampleSink* sink,
                     std::function<void(const absl::Status&)> done) override;
  void RequestStop() override;
  bool shares_events() const override { return true; }
  FeedStats stats() const override;
  std::vector<Progress> progress() const override;
  void Describe(v1::Session* out) const override;
  absl::Status Lend(int32_t cpu,
                    const std::function<absl::Status(const pmu::LentEvent&)>& take) const override;

  void Deliver(std::span<const Sample> samples) override { sink_->Deliver(samples); }
  void DeliverPicked(std::span<const Sample> samples,
                     std::span<const PickedSample> picked) override {
    sink_->DeliverPicked(samples, picked);
  }
  Haste haste() const override { return sink_->haste(); }
  bool WantsComm(absl::string_view comm) override;
  void Dropped(Drop why) override;

 private:
  friend class Flow;
  FlowShare(std::shared_ptr<Flow> flow, uint64_t id, FlowDemand demand, FilterSpec filter);

  // By the reader: whose the sample is; appends the share.
  void Take(const pmu::RawRecord& record, std::optional<uint32_t> uid, uint64_t flow_rate,
            std::vector<SampleShare>* shares);
  // Whether its samples, or the end of its target, are to be read soon.
  bool Hurries() const;
  bool Within(uint64_t time_ns) const { return time_ns >= start_ns_ && time_ns < end_ns_; }
  // It is over, and this the last call: it may be destroyed at once.
  void Finish(const absl::Status& status);

  const std::shared_ptr<Flow> flow_;
  const uint64_t id_;
  const FlowDemand demand_;

  // What follows from the rate at which the flow samples.
  struct AtRate {
    uint64_t flow_rate = 0;  // 0: of none yet
    double keep = 1;
    uint64_t weight = 0;  // 0: what the sample says, by 1 / keep
  };
  void SetRate(uint64_t flow_rate);

  // The reader's.
  AtRate at_rate_;
  SessionFilter filter_;
  pmu::OwnerFilter* owned_ = nullptr;  // the flow's, of filter_.spec().viewer
  Thinning thinning_;
  uint64_t start_ns_ = UINT64_MAX;
  uint64_t end_ns_ = UINT64_MAX;
  uint64_t deadline_ns_ = UINT64_MAX;
  int pid_fd_ = -1;  // of filter_.spec().process
  bool gone_ = false;

  SampleSink* sink_ = nullptr;
  std::function<void(const absl::Status&)> done_;

  std::atomic<uint64_t> slowest_rate_;  // at which it was sampled
  std::atomic<uint64_t> flow_samples_ = 0;
  std::atomic<uint64_t> admitted_ = 0;
  std::atomic<uint64_t> thinned_ = 0;
  std::atomic<uint64_t> left_out_[5] = {};  // by LeftOut
  std::atomic<uint64_t> other_comm_ = 0;
  std::atomic<uint64_t> dropped_queue_full_ = 0;
  std::atomic<uint64_t> undecodable_ = 0;

  mutable absl::Mutex mutex_;
  enum class Life : uint8_t { kNew, kBegun, kOver };
  Life life_ ABSL_GUARDED_BY(mutex_) = Life::kNew;
  bool stop_asked_ ABSL_GUARDED_BY(mutex_) = false;
  // What the flow had counted when it began and when it ended.
  pmu::SourceStats at_begin_ ABSL_GUARDED_BY(mutex_);
  std::optional<pmu::SourceStats> at_end_ ABSL_GUARDED_BY(mutex_);
  uint64_t window_begin_ns_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t window_end_ns_ ABSL_GUARDED_BY(mutex_) = UINT64_MAX;
};

}  // namespace lbrd::daemon
