#include "pmu/ring_order.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace lbrd::pmu {
namespace {

constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.next.who.time > b.next.who.time;
};

}  // namespace

void RingOrder::Add(Ring* ring) {
  rings_.push_back(ring);
  empty_.push_back(ring);
}

void RingOrder::Retire(Ring* ring) {
  ring->Refresh();
  retired_.push_back(ring);
  const auto empty = std::find(empty_.begin(), empty_.end(), ring);
  if (empty == empty_.end()) return;  // its next record is on the heap, or with the caller
  empty_.erase(empty);
  PushNext(ring);
}

std::vector<Ring*> RingOrder::TakeDrained() { return std::exchange(drained_, {}); }

void RingOrder::Forget(Ring* ring) {
  malformed_ += ring->corruptions();
  rings_.erase(std::find(rings_.begin(), rings_.end(), ring));
  retired_.erase(std::find(retired_.begin(), retired_.end(), ring));
  drained_.push_back(ring);
}

void RingOrder::PushNext(Ring* ring) {
  while (const perf_event_header* header = ring->Peek()) {
    Entry entry{ring, {.header = header, .who = {}, .event = 0, .ring = ring}};
    if (peek_(header, &entry.next.who, &entry.next.event)) {
      heap_.push_back(entry);
      std::push_heap(heap_.begin(), heap_.end(), kLater);
      return;
    }
    ++malformed_;
    ring->Advance();
  }
  if (!retired_.empty() && std::find(retired_.begin(), retired_.end(), ring) != retired_.end()) {
    Forget(ring);
    return;
  }
  empty_.push_back(ring);
}

void RingOrder::BeginRound(uint64_t now) {
  release_before_ = round_begin_;
  round_begin_ = now;
  for (Ring* ring : rings_) ring->Refresh();
  std::vector<Ring*> empty;
  empty.swap(empty_);
  for (Ring* ring : empty) PushNext(ring);
}

void RingOrder::Drain() {
  BeginRound(round_begin_);
  release_before_ = std::numeric_limits<uint64_t>::max();
}

const RingOrder::Next* RingOrder::Pop() {
  if (handed_.ring != nullptr) {
    Ring* ring = handed_.ring;
    handed_.ring = nullptr;
    ring->Advance();
    PushNext(ring);
    // Give space back in large steps: each store bounces the control page's cache line.
    if (ring->held_bytes() > ring->data_bytes() / 8) ring->Release();
  }
  if (heap_.empty() || heap_.front().next.who.time >= release_before_) {
    handed_out_before_ = release_before_;
    return nullptr;
  }
  std::pop_heap(heap_.begin(), heap_.end(), kLater);
  handed_ = heap_.back();
  heap_.pop_back();
  const uint64_t time = handed_.next.who.time;
  if (time < last_time_) {
    ++late_;
  } else {
    last_time_ = time;
  }
  return &handed_.next;
}

void RingOrder::ReleaseAll() {
  for (Ring* ring : rings_) ring->Release();
}

uint64_t RingOrder::malformed() const {
  uint64_t sum = malformed_;
  for (const Ring* ring : rings_) sum += ring->corruptions();
  return sum;
}

}  // namespace lbrd::pmu
