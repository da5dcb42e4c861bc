// A flow: one kind of event on a set of CPUs, one pipeline behind it, and the sessions that have a
// share in it. See daemon/planner.h for who shares, and docs/design/planner.md for the whole story.
//
//   rings -> reader: whose is it? (this gate) -> workers: resolve once -> each FlowShare -> Session
//
// The kernel samples as often as the session that asks most often wants; the others are thinned.
// When nobody is left the events stay open, disabled, for a linger time; their side band goes on,
// so that the next session finds the machine's mappings as they are.
//
// A share begins and ends at a moment of the records' clock, drawn by the reader: it has every
// sample of that time, and no other. Its account adds up exactly when it has ended.
//
// Thread rules: what a flow does, its reader does (Attend(), See(), and what they call); others
// post commands. FlowShare: as SessionFeed. Lock order: Flow::mutex_ and FlowShare::mutex_ are
// leaves, and the reader holds neither while it calls anybody.
//
// Memory: a pipeline's (daemon/pipeline.h), and for each session some 400 bytes and 8 a CPU.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "daemon/pipeline.h"
#include "daemon/planner.h"
#include "daemon/session_feed.h"
#include "daemon/session_filter.h"
#include "daemon/session_source.h"
#include "daemon/thinning.h"
#include "pmu/uid_filter.h"

namespace lbrd::daemon {

class Flow;

// One session's share.
class FlowShare : public SessionFeed, public Subscriber {
 public:
  ~FlowShare() override;

  absl::Status Begin(absl::Duration duration, SampleSink* sink,
                     std::function<void(const absl::Status&)> done) override;
  void RequestStop() override;
  FeedStats stats() const override;
  std::vector<Progress> progress() const override;
  void Describe(v1::Session* out) const override;
  absl::Status Lend(int32_t cpu,
                    const std::function<absl::Status(const pmu::LentEvent&)>& take) const override;

  void Deliver(std::span<const Sample> samples) override { sink_->Deliver(samples); }
  bool WantsComm(absl::string_view comm) override;
  void Dropped(Drop why) override;

 private:
  friend class Flow;
  FlowShare(std::shared_ptr<Flow> flow, uint64_t id, FlowDemand demand, FilterSpec filter);

  // By the reader: whose the sample is; appends the share.
  void Take(const pmu::RawRecord& record, std::optional<uint32_t> uid, uint64_t flow_rate,
            std::vector<SampleShare>* shares);
  bool Within(uint64_t time_ns) const { return time_ns >= start_ns_ && time_ns < end_ns_; }
  // It is over, and this the last call: it may be destroyed at once.
  void Finish(const absl::Status& status);

  const std::shared_ptr<Flow> flow_;
  const uint64_t id_;
  const FlowDemand demand_;

  // The reader's.
  SessionFilter filter_;
  Thinning thinning_;
  uint64_t start_ns_ = UINT64_MAX;
  uint64_t end_ns_ = UINT64_MAX;
  uint64_t deadline_ns_ = UINT64_MAX;
  int pid_fd_ = -1;  // of filter_.spec().process
  bool gone_ = false;

  SampleSink* sink_ = nullptr;
  std::function<void(const absl::Status&)> done_;

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
  // What the flow had counted when it began and when it ended.
  pmu::SourceStats at_begin_ ABSL_GUARDED_BY(mutex_);
  std::optional<pmu::SourceStats> at_end_ ABSL_GUARDED_BY(mutex_);
  uint64_t window_begin_ns_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t window_end_ns_ ABSL_GUARDED_BY(mutex_) = UINT64_MAX;
};

struct FlowOptions {
  std::string name;
  FlowKind kind;
  CpuSet cpus;
  uint64_t rate = 0;
  absl::Duration linger = absl::Seconds(30);
};

class Flow : public SampleGate {
 public:
  // `source`: opened for the kind, CPUs and rate, with `live` set. Borrows the kernel and binaries.
  // `ended` is called once, from the reader, when its pipeline has come to its end.
  Flow(pmu::Kernel& kernel, FlowOptions options, SessionSource source,
       unwind::BinaryCache* binaries, std::function<void()> ended);
  ~Flow() override;

  // A share that has not begun; nullptr: the flow is ending.
  static std::unique_ptr<FlowShare> Join(const std::shared_ptr<Flow>& flow, FlowDemand demand,
                                         FilterSpec filter);
  FlowPlace place() const;
  const std::string& name() const { return options_.name; }
  // Nobody has a share in it: it ends soon. False: somebody has.
  bool EndIfIdle();
  // Once it has ended, or was never begun: gives its events back.
  void Release();

  void See(const pmu::RawRecord& record, std::vector<SampleShare>* shares) override;
  void Attend() override;
  absl::Duration MaxWait() const override;
  bool over() const override { return over_; }

 private:
  friend class FlowShare;
  struct Command {
    enum Kind : uint8_t { kStart, kStop } kind;
    uint64_t share_id;
    FlowShare* start = nullptr;  // waits for its answer, so it is there
    absl::Duration duration;
    absl::Status* status = nullptr;
    absl::Notification* answered = nullptr;
  };

  absl::Status BeginOnce();
  absl::Status Start(FlowShare* share, absl::Duration duration);
  void Post(Command command);
  void Leave();
  void DescribeTo(v1::Session* out) const;
  pmu::SourceStats SourceNow() const;
  std::array<uint64_t, unwind::kWindowFindings> LbrWindows() const;
  std::vector<Progress> progress() const;

  // The reader's.
  void RunCommands();
  void Accept(const Command& command);
  absl::Status StartShare(FlowShare* share, absl::Duration duration);
  void EndShare(FlowShare* share);
  void EndThoseDue(uint64_t now);
  absl::Status SetRate(uint64_t rate);
  uint64_t RateWithout(const FlowShare* share) const;
  uint64_t RateAt(uint64_t time_ns) const;
  bool FixedWeights() const { return options_.kind.by_period || clock_; }
  void SetCpus(CpuSet cpus);
  void SeeTask(const pmu::RawRecord& record);
  bool TargetGone(FlowShare* share);
  bool EndsWithLast();
  void PipelineEnded(const absl::Status& status);

  pmu::Kernel& kernel_;
  const FlowOptions options_;
  const std::function<void()> ended_;
  SessionSource source_;  // but for its records, which the pipeline has
  pmu::EventSet* const events_;
  // Samples do not say what they stand for: by period, and those of clocks, which the kernel tells
  // the period that they were opened with.
  const bool clock_;

  absl::Mutex begin_mutex_;  // before mutex_: one share begins the pipeline

  // The reader's.
  std::vector<FlowShare*> active_;
  std::vector<FlowShare*> leaving_;  // ended, but not all of its samples have been seen
  std::vector<Command> widening_;    // wait for events on more CPUs
  bool sampling_ = false;
  struct RateChange {
    uint64_t from_ns;
    uint64_t rate;
  };
  std::deque<RateChange> rates_;  // by period: the last few, so that each sample has its own
  pmu::UidFilter users_;
  size_t by_user_ = 0;  // active and leaving shares that ask for a user
  uint64_t idle_since_ = 0;
  std::atomic<bool> over_ = false;  // set under mutex_

  mutable absl::Mutex mutex_;
  std::deque<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool end_if_idle_ ABSL_GUARDED_BY(mutex_) = false;
  size_t members_ ABSL_GUARDED_BY(mutex_) = 0;  // shares that are not over
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t rate_ ABSL_GUARDED_BY(mutex_);
  CpuSet cpus_ ABSL_GUARDED_BY(mutex_);
  std::vector<pmu::CpuGap> rate_gaps_ ABSL_GUARDED_BY(mutex_);  // at most pmu::kMaxGaps

  mutable absl::Mutex pipeline_mutex_;  // before everything below the pipeline
  std::unique_ptr<Pipeline> pipeline_;  // replaced by nothing under pipeline_mutex_
};

}  // namespace lbrd::daemon
