// A session's events on what it targets: which are open where, and how they follow what moves.
//
// Thread rules: notes() and DescribeGaps() from any thread; everything else from the one that reads
// the session's rings (or opens it).
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pmu/record_source.h"
#include "pmu/record_writer.h"
#include "pmu/ring.h"

namespace lbrd::pmu {

class TargetEvents {
 public:
  TargetEvents() = default;
  TargetEvents(const TargetEvents&) = delete;
  TargetEvents& operator=(const TargetEvents&) = delete;
  virtual ~TargetEvents() = default;

  // Opens what can be opened now. Errors say what failed, on what, and what to do.
  virtual absl::Status Open() = 0;
  // CPUs that are sampled.
  virtual size_t cpus() const = 0;

  // How many sampling events' time_enabled goes on at once where one can run.
  virtual size_t events_per_clock() const { return 1; }

  // Side-band events are enabled; `now` is the records' clock.
  virtual void Started(uint64_t now) { static_cast<void>(now); }
  // A record that is about to be handed out, in time order, and the ring that it came from.
  enum class Verdict { kKeep, kDuplicate, kOtherUser };
  virtual Verdict See(const RawRecord& record, const Ring* ring) {
    static_cast<void>(record);
    static_cast<void>(ring);
    return Verdict::kKeep;
  }
  // Follows what moved since the last call. No record is held. What must be known of processes that
  // are new here is appended to *made.
  virtual void Follow(uint64_t now, RecordWriter* made) {
    static_cast<void>(now);
    static_cast<void>(made);
  }
  // Other CPUs are wanted (empty: all): events come and go with the next Follow().
  virtual void Want(std::vector<int32_t> cpus) { static_cast<void>(cpus); }
  // They have come and gone.
  virtual bool settled() const { return true; }
  // The session is about to end: the last look at what moved, while events still run.
  virtual void Finishing() {}
  // The events that write to this ring have hung up.
  virtual void HungUp(Ring* ring) { static_cast<void>(ring); }
  // All that was sampled has ended.
  virtual bool gone() const { return false; }

  virtual std::vector<std::string> notes() const { return {}; }
  // Forks, execs and exits of a gap are told by nobody: what was known before one ended may be
  // wrong.
  virtual uint64_t gaps_ended() const { return 0; }
  // Fills in gap_count, gap_ns and gaps.
  virtual void DescribeGaps(SourceStats* out) const { static_cast<void>(out); }
};

}  // namespace lbrd::pmu
