#include "pmu/pending_records.h"

#include <algorithm>
#include <limits>

namespace lbrd::pmu {

void PendingRecords::Add(const PendingRecord& record) {
  uint32_t index = free_;
  if (index == kNone) {
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    free_ = slots_[index].next;
  }
  slots_[index] = {.record = record, .next = kNone};
  ++count_;
  youngest_ = std::max(youngest_, record.time);
  if (last_ != kNone && slots_[last_].record.time <= record.time) {
    slots_[last_].next = index;
  } else {
    heap_.push_back({.time = record.time, .age = runs_++, .first = index});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  last_ = index;
}

void PendingRecords::EndRound() {
  release_to_ = round_youngest_;
  round_youngest_ = youngest_;
}

void PendingRecords::ReleaseAll() { release_to_ = std::numeric_limits<uint64_t>::max(); }

bool PendingRecords::Pop(bool force, PendingRecord* out) {
  if (heap_.empty() || (!force && heap_.front().time > release_to_)) {
    release_to_ = 0;
    return false;
  }
  std::pop_heap(heap_.begin(), heap_.end(), Later);
  Run& run = heap_.back();
  const uint32_t index = run.first;
  Slot& slot = slots_[index];
  *out = slot.record;
  const uint32_t next = slot.next;
  if (last_ == index) last_ = kNone;
  slot.next = free_;
  free_ = index;
  --count_;
  if (next == kNone) {
    heap_.pop_back();
  } else {
    run.first = next;
    run.time = slots_[next].record.time;
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  if (out->time == 0) return true;
  if (out->time < last_popped_) {
    ++late_;
  } else {
    last_popped_ = out->time;
  }
  return true;
}

}  // namespace lbrd::pmu
