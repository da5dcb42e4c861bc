// Time order across rings, by watermark and with no time constant.
//
// Each ring is ordered in itself, so a heap of rings by their next record's time merges them in
// O(log rings) per record. A record may be handed out once every ring has been read past its time.
// Reading goes in rounds: a round looks at every ring's head once. What was stamped before the
// *previous* round began had that whole round to be committed, and is in sight now; so a round
// hands out everything up to the begin of the one before. A record whose writer was delayed for
// longer (an interrupt handler suspended by a hypervisor) comes late, and is counted, never
// reordered in silence.
//
// Thread rules: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "pmu/record.h"
#include "pmu/ring.h"

namespace lbrd::pmu {

class RingOrder {
 public:
  // Says who and when a record is, and which event wrote it; false: the record is malformed, skip
  // it.
  using Peek = std::function<bool(const perf_event_header*, SampleId* who, uint32_t* event)>;

  explicit RingOrder(Peek peek) : peek_(std::move(peek)) {}

  // Borrows the ring until TakeDrained() gives it back. At any time.
  void Add(Ring* ring);
  // The ring will not be written again: what it holds is still handed out, in order, and then it is
  // among those that TakeDrained() gives back.
  void Retire(Ring* ring);
  // Retired rings of which nothing is left, not even a record handed out. They are forgotten here.
  // Call it only while no record is held: when Pop() has said that there is none.
  std::vector<Ring*> TakeDrained();

  // Looks at all rings; `now` is the records' clock, read by the caller before the call.
  void BeginRound(uint64_t now);
  // No ring will be written again: everything can go.
  void Drain();

  struct Next {
    const perf_event_header* header;
    SampleId who;
    uint32_t event;
    const Ring* ring = nullptr;  // where it came from
  };
  // The oldest record that can be handed out, or nullptr. Valid until the next call.
  const Next* Pop();

  // Every record of an earlier time has been handed out, but for late ones.
  uint64_t handed_out_before() const { return handed_out_before_; }

  // Gives the space of records handed out back to the kernel, but for the one in use.
  void ReleaseAll();

  uint64_t late() const { return late_; }
  uint64_t malformed() const;

 private:
  // A ring, and its next record if that is on the heap.
  struct Source {
    Ring* ring;
    Next next;
    bool retired = false;
  };
  struct Entry {
    uint64_t time;  // of the next record; here too, so that the heap is all that is looked at
    Source* source;
  };
  // Reads the ring's next record; false: none is in sight.
  bool ReadNext(Source* source);
  // Puts the ring's next record, if it has one in sight, on the heap.
  void PushNext(Source* source);
  // The record that the caller held is done with.
  void PassHanded();
  // The front of the heap may have become later than others.
  void SiftFront();
  // Nothing of the ring is in sight.
  void Rest(Source* source);

  Peek peek_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<Entry> heap_;     // the oldest first; that which the caller holds is in it
  std::vector<Source*> empty_;  // with nothing in sight
  std::vector<Ring*> drained_;
  Source* handed_ = nullptr;  // whose record the caller holds
  uint64_t round_begin_ = 0;
  uint64_t release_before_ = 0;
  uint64_t handed_out_before_ = 0;
  uint64_t last_time_ = 0;
  uint64_t late_ = 0;
  uint64_t malformed_ = 0;
};

}  // namespace lbrd::pmu
