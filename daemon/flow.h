// A flow: one kind of event on a set of CPUs, one pipeline behind it, and the sessions that have a
// share in it. See daemon/planner.h for who shares, and docs/design/planner.md for the whole story.
//
//   rings -> reader: whose is it? (this gate) -> workers: resolve once -> each FlowShare -> Session
//
// The kernel samples as often as the session that asks most often wants; the others are thinned.
// When nobody is left the events stay open, disabled, for a linger time; their side band goes on,
// so that the next session finds the machine's mappings as they are.
//
// Thread rules: what a flow does, its reader does (Attend(), See(), and what they call); others
// post commands. Lock order: Flow::mutex_ and FlowShare::mutex_ are
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
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "daemon/flow_share.h"
#include "daemon/pipeline.h"
#include "daemon/planner.h"
#include "daemon/session_source.h"
#include "pmu/cpu_watch.h"
#include "pmu/owner_filter.h"
#include "pmu/uid_filter.h"

namespace lbrd::daemon {

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
  // From soon on the kernel samples so many times more slowly than the sessions want, and each
  // sample stands for as much more; 1: as they want.
  void SlowDown(uint32_t factor);
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
  // `wanted`: by the sessions; the events are slowed down from there.
  absl::Status SetRate(uint64_t wanted);
  uint64_t RateWithout(const FlowShare* share) const;
  uint64_t RateAt(uint64_t time_ns) const;
  bool FixedWeights() const { return options_.kind.by_period || clock_; }
  void SetCpus(CpuSet cpus);
  void SeeTask(const pmu::RawRecord& record);
  // The share counts on what users_ or owned_ know.
  void Need(FlowShare* share);
  void NeedNoMore(FlowShare* share);
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
  uint32_t slowed_down_ = 1;  // as the events are
  struct RateChange {
    uint64_t from_ns;
    uint64_t rate;
  };
  std::deque<RateChange> rates_;  // by period: the last few, so that each sample has its own
  pmu::UidFilter users_;
  size_t by_user_ = 0;  // active and leaving shares that ask for a user
  // What is wholly a user's, for shares of users who may see no more.
  struct Owned {
    pmu::OwnerFilter filter;
    size_t shares;
  };
  absl::flat_hash_map<uint32_t, std::unique_ptr<Owned>> owned_;  // by user
  uint64_t gaps_ended_ = 0;                                      // that owned_ knows of
  uint64_t idle_since_ = 0;
  std::atomic<uint32_t> slow_down_ = 1;  // as they are to be
  std::atomic<bool> over_ = false;       // set under mutex_

  mutable absl::Mutex mutex_;
  std::deque<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool end_if_idle_ ABSL_GUARDED_BY(mutex_) = false;
  size_t members_ ABSL_GUARDED_BY(mutex_) = 0;  // shares that are not over
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t rate_ ABSL_GUARDED_BY(mutex_);
  CpuSet cpus_ ABSL_GUARDED_BY(mutex_);
  pmu::GapLog rate_gaps_;  // of kAllCpus

  mutable absl::Mutex pipeline_mutex_;  // before everything below the pipeline
  std::unique_ptr<Pipeline> pipeline_;  // replaced by nothing under pipeline_mutex_
};

}  // namespace lbrd::daemon
