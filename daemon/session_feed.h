// What feeds a session with samples: events of its own (daemon/private_feed), or a share in a flow
// (daemon/flow).
//
// Thread rules: Begin() once; RequestStop(), figures and descriptions from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/progress.h"
#include "daemon/sample_share.h"
#include "lbrd/v1/session.pb.h"
#include "pmu/record_source.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

// What became of the samples on their way to the session. Exact once it has ended.
struct FeedStats {
  pmu::SourceStats source;
  uint64_t dropped_queue_full = 0;
  uint64_t undecodable_samples = 0;
  uint64_t side_band_dropped = 0;
  // Of a flow: the samples that were taken while the session had a share in it, and those among
  // them that were not meant for it. source.samples are those that were.
  uint64_t flow_samples = 0;
  uint64_t thinned = 0;
  uint64_t other_cpu = 0;
  uint64_t other_thread = 0;
  uint64_t other_process = 0;
  uint64_t other_comm = 0;
  // See PipelineStats. Of a flow: of all its samples since it was opened.
  std::array<uint64_t, unwind::kWindowFindings> lbr_windows{};

  FeedStats& operator+=(const FeedStats& other);
};

class SessionFeed {
 public:
  SessionFeed() = default;
  SessionFeed(const SessionFeed&) = delete;
  SessionFeed& operator=(const SessionFeed&) = delete;
  // Ends it; nothing is delivered any more.
  virtual ~SessionFeed() = default;

  // Lets samples flow to `sink`, for `duration` at most. `done` is called once, from a thread of
  // the feed's, when all that was taken has been delivered: OK, or why it ended early. An error:
  // nothing flows, and `done` is not called.
  virtual absl::Status Begin(absl::Duration duration, SampleSink* sink,
                             std::function<void(const absl::Status&)> done) = 0;
  // Ends the flow; what was taken before is still delivered.
  virtual void RequestStop() = 0;

  // Loses nothing when its reader is slow: whoever is downstream may block it.
  virtual bool patient() const { return false; }
  // Its events see what other sessions want as well.
  virtual bool shares_events() const { return false; }
  virtual FeedStats stats() const = 0;
  // Of each thread that works for it.
  virtual std::vector<Progress> progress() const = 0;
  // Fills in events, notes, cpus, flow; of a recording, how far it was read.
  virtual void Describe(v1::Session* out) const = 0;
  // See pmu::RecordSource::LendEvent().
  virtual absl::Status Lend(
      int32_t cpu, const std::function<absl::Status(const pmu::LentEvent&)>& take) const = 0;
};

}  // namespace lbrd::daemon
