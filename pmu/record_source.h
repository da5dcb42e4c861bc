// Where records come from: the rings of a running kernel, or a recording of one.
//
// Above this line nothing knows the difference, so that what is tested on recordings is what runs
// on machines. A source hands records out in time order, one at a time.
//
// Thread rules: one thread calls Next() and Wait(); stats() may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "pmu/record.h"
#include "pmu/split_sample.h"

namespace lbrd::pmu {

// One kind of event of a source. A machine's per-CPU copies of it are the same SourceEvent.
struct SourceEvent {
  std::string name;  // as the user asked for it, or as the recording calls it
  perf_event_attr attr{};
  RecordFormat format;
};

// RawRecord::event of a record that a source made itself (RecordWriter): its format is
// RecordFormat{}.
inline constexpr uint32_t kMadeRecord = UINT32_MAX;
// How many gaps a source tells one by one: the first ones, and the last ones.
inline constexpr size_t kMaxGaps = 64;
inline constexpr size_t kRecentGaps = 256;

// One record, as written. Valid until the next call of Next().
struct RawRecord {
  const perf_event_header* header = nullptr;  // 8-byte aligned
  uint32_t event = 0;                         // index into RecordSource::events(), or kMadeRecord
  SampleId who;
  StackCopy stack;  // of a sample, where it stands apart from the record: see DecodeRaw()
};

// DecodeSplit() of a source's record.
inline absl::StatusOr<Record> DecodeRaw(const RawRecord& record, const RecordFormat& format) {
  return DecodeSplit(record.header, record.stack, format);
}

// A record that RecordSource::Keep() keeps.
struct KeptRecord {
  uint32_t place = 0;  // the source's own number of where it stands
};

enum class ReadResult {
  kRecord,  // *out is valid
  kIdle,    // nothing can be handed out now: Wait(), then ask again (live sources only)
  kEnd,     // nothing will ever come again
};

// A time in which a CPU that was to be sampled had no event: it was offline, or was again online
// and not yet noticed.
struct CpuGap {
  int32_t cpu = 0;
  uint64_t from_ns = 0;  // CLOCK_MONOTONIC
  uint64_t to_ns = 0;    // 0: it lasts
};

// All gaps of one CPU.
struct CpuGapTotal {
  int32_t cpu = 0;
  uint64_t count = 0;
  uint64_t ended_ns = 0;  // of those that have ended, summed
  uint64_t since_ns = 0;  // when the one that lasts began; 0: none does
};

// What a source itself knows about loss. All counts since it was opened.
struct SourceStats {
  uint64_t samples = 0;          // PERF_RECORD_SAMPLE handed out
  uint64_t other_records = 0;    // everything else handed out
  uint64_t lost_samples = 0;     // the kernel had no room in the ring
  uint64_t lost_other = 0;       // side-band records lost the same way: names may be missing
  uint64_t late_records = 0;     // handed out after a younger one
  uint64_t undecodable = 0;      // malformed records skipped
  uint64_t throttled = 0;        // times the kernel stopped an event for being too fast
  uint64_t kernel_count = 0;     // the events' own counters, summed (event units; live only)
  uint64_t time_enabled_ns = 0;  // how long the events were to count, summed (live only)
  uint64_t time_running_ns = 0;  // of that, how long they had a counter of the hardware
  uint64_t duplicates = 0;       // samples left out: two events of the session took them
  uint64_t other_users = 0;      // samples left out: of processes of other users
  uint64_t gap_count = 0;
  // Of all gaps that have ended, summed; once the source has ended, of those that lasted as well.
  uint64_t gap_ns = 0;
  std::vector<CpuGap> gaps;  // the first kMaxGaps of them
  // For who looks at a part of the source's time only.
  std::vector<CpuGap> recent_gaps;       // the last kRecentGaps, from the earliest on
  std::vector<CpuGapTotal> gaps_by_cpu;  // of each CPU that ever had one, ascending

  // Sums the counts, and takes of the other's `gaps` what there is room for. `recent_gaps` and
  // `gaps_by_cpu` stay as they are: who looks at a part of the time looks at one source.
  SourceStats& operator+=(const SourceStats& other);
};

// An event of a live source, for as long as a call of LendEvent().
struct LentEvent {
  int fd = -1;
  uint64_t ring_bytes = 0;  // of the ring that it writes to
  perf_event_attr attr{};
};

class RecordSource {
 public:
  RecordSource() = default;
  RecordSource(const RecordSource&) = delete;
  RecordSource& operator=(const RecordSource&) = delete;
  virtual ~RecordSource() = default;

  virtual const std::vector<SourceEvent>& events() const = 0;

  // A patient source loses nothing when its reader is slow: whoever is downstream may block it.
  virtual bool patient() const = 0;

  // The next record in time order. An error ends the source (kDataLoss: a corrupt recording).
  virtual absl::StatusOr<ReadResult> Next(RawRecord* out) = 0;

  // Blocks until there may be something to read, `timeout` has passed, or Interrupt() was called.
  virtual void Wait(absl::Duration timeout) = 0;
  // Wakes Wait() from any thread.
  virtual void Interrupt() = 0;

  // What was to be sampled has ended: nothing new will come. Always false where that cannot happen.
  virtual bool target_gone() const { return false; }

  // Stops the flow at its origin: records already written can still be read, then Next() says kEnd.
  // Called by the reading thread.
  virtual void Finish() = 0;

  virtual SourceStats stats() const = 0;
  // Calls `take` with the sampling event of a CPU; it stays open until that returns. From any
  // thread. kNotFound: there is none.
  virtual absl::Status LendEvent(int32_t cpu,
                                 const std::function<absl::Status(const LentEvent&)>& take) const {
    static_cast<void>(cpu);
    static_cast<void>(take);
    return absl::NotFoundError("a recording has no events on CPUs");
  }
  // Whether what was handed out was what the source had, to be asked when nobody reads it any more.
  // kDataLoss: it changed meanwhile.
  virtual absl::Status Intact() const { return absl::OkStatus(); }
  // What a user must know of how it went, as sentences. From any thread.
  virtual std::vector<std::string> notes() const { return {}; }

  // The record that Next() gave last stays readable until LetGo(), so that whoever reads it
  // elsewhere need not copy it. nullopt: not this one. Both by the thread that calls Next().
  virtual std::optional<KeptRecord> Keep() { return std::nullopt; }
  virtual void LetGo(const KeptRecord& kept) { static_cast<void>(kept); }
};

}  // namespace lbrd::pmu
