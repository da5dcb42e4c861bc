// Time order within a recording.
//
// A recording is what `perf record` read from its rings, ring after ring, round after round: many
// short runs, each ordered in itself. Runs are kept as lists, and a heap of runs by their next
// record's time merges them: O(1) to add a record that goes on in time, O(log runs) to take one
// out.
//
// When a record may be taken out is perf's own rule. PERF_RECORD_FINISHED_ROUND says that every
// ring has been read once. What the previous round had seen had a whole round for its elders to
// arrive, so the end of a round lets everything go up to the youngest time of the round before it.
// What still comes too late is counted, never reordered in silence.
//
// Holds 48 bytes a record; bounding their number is the caller's business (see Pop). Thread rules:
// one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "pmu/abi.h"
#include "pmu/split_sample.h"

namespace lbrd::pmu {

struct PendingRecord {
  uint64_t time = 0;
  const perf_event_header* header = nullptr;
  uint32_t chunk = 0;  // of a ChunkPool; the record is a user of it
  uint32_t event = 0;
  StackCopy stack;  // in the same chunk
};

class PendingRecords {
 public:
  void Add(const PendingRecord& record);

  void EndRound();
  // Nothing will be added any more: everything can go.
  void ReleaseAll();

  // The oldest record, if it may go or `force` says that it must; of equals, the one added first.
  // Once this has said no, what is added may not go before the next EndRound().
  bool Pop(bool force, PendingRecord* out);

  bool empty() const { return heap_.empty(); }
  // Whether a record with a time was ever added.
  bool has_timed() const { return youngest_ != 0; }
  uint64_t bytes() const { return count_ * kBytesPerRecord; }
  // Records that went after a younger one.
  uint64_t late() const { return late_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Slot {
    PendingRecord record;
    uint32_t next = kNone;  // in the same run; in a free slot, the next free one
  };
  static constexpr uint64_t kBytesPerRecord = sizeof(Slot) + 3 * sizeof(uint64_t);  // and its run

  // The rest of a run, by its first record. A younger run is one whose records were added later.
  struct Run {
    uint64_t time;
    uint64_t age;
    uint32_t first;
  };
  static bool Later(const Run& a, const Run& b) {
    return a.time != b.time ? a.time > b.time : a.age > b.age;
  }

  std::vector<Slot> slots_;
  uint32_t free_ = kNone;
  uint64_t count_ = 0;
  std::vector<Run> heap_;
  uint32_t last_ = kNone;  // the slot added last, if it still waits
  uint64_t runs_ = 0;
  uint64_t youngest_ = 0;        // of all records added
  uint64_t round_youngest_ = 0;  // the same, when the previous round ended
  uint64_t release_to_ = 0;
  uint64_t last_popped_ = 0;
  uint64_t late_ = 0;
};

}  // namespace lbrd::pmu
