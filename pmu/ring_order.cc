#include "pmu/ring_order.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace lbrd::pmu {
namespace {

constexpr auto kLater = [](const auto& a, const auto& b) { return a.time > b.time; };

}  // namespace

void RingOrder::Add(Ring* ring) {
  sources_.push_back(std::make_unique<Source>(Source{.ring = ring, .next = {.ring = ring}}));
  empty_.push_back(sources_.back().get());
}

void RingOrder::Retire(Ring* ring) {
  ring->Refresh();
  const auto found = std::find_if(sources_.begin(), sources_.end(),
                                  [ring](const auto& source) { return source->ring == ring; });
  Source* const source = found->get();
  source->retired = true;
  const auto empty = std::find(empty_.begin(), empty_.end(), source);
  if (empty == empty_.end()) return;  // its next record is on the heap, or with the caller
  empty_.erase(empty);
  PushNext(source);
}

std::vector<Ring*> RingOrder::TakeDrained() { return std::exchange(drained_, {}); }

void RingOrder::Rest(Source* source) {
  if (!source->retired) {
    empty_.push_back(source);
    return;
  }
  malformed_ += source->ring->corruptions();
  drained_.push_back(source->ring);
  sources_.erase(std::find_if(sources_.begin(), sources_.end(),
                              [source](const auto& one) { return one.get() == source; }));
}

bool RingOrder::ReadNext(Source* source) {
  while (const perf_event_header* header = source->ring->Peek()) {
    source->next.header = header;
    source->next.who = {};
    if (peek_(header, &source->next.who, &source->next.event)) return true;
    ++malformed_;
    source->ring->Advance();
  }
  return false;
}

void RingOrder::PushNext(Source* source) {
  if (!ReadNext(source)) return Rest(source);
  heap_.push_back({source->next.who.time, source});
  std::push_heap(heap_.begin(), heap_.end(), kLater);
}

void RingOrder::SiftFront() {
  const Entry entry = heap_.front();
  size_t place = 0;
  for (;;) {
    size_t child = 2 * place + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && kLater(heap_[child], heap_[child + 1])) ++child;
    if (!kLater(entry, heap_[child])) break;
    heap_[place] = heap_[child];
    place = child;
  }
  heap_[place] = entry;
}

void RingOrder::PassHanded() {
  Source* const source = std::exchange(handed_, nullptr);
  if (source == nullptr) return;
  Ring* const ring = source->ring;
  ring->Advance();
  const bool more = ReadNext(source);
  // The front, unless a round has brought a late record since.
  size_t place = 0;
  while (heap_[place].source != source) ++place;
  if (more) {
    heap_[place].time = source->next.who.time;
  } else {
    heap_[place] = heap_.back();
    heap_.pop_back();
    Rest(source);
  }
  if (place != 0) {
    std::make_heap(heap_.begin(), heap_.end(), kLater);
  } else if (!heap_.empty()) {
    SiftFront();
  }
  // Give space back in large steps: each store bounces the control page's cache line.
  if (ring->held_bytes() > ring->data_bytes() / 8) ring->Release();
}

void RingOrder::BeginRound(uint64_t now) {
  release_before_ = round_begin_;
  round_begin_ = now;
  for (const auto& source : sources_) source->ring->Refresh();
  std::vector<Source*> empty;
  empty.swap(empty_);
  for (Source* source : empty) PushNext(source);
}

void RingOrder::Drain() {
  BeginRound(round_begin_);
  release_before_ = std::numeric_limits<uint64_t>::max();
}

const RingOrder::Next* RingOrder::Pop() {
  PassHanded();
  if (heap_.empty() || heap_.front().time >= release_before_) {
    handed_out_before_ = release_before_;
    return nullptr;
  }
  handed_ = heap_.front().source;
  const uint64_t time = heap_.front().time;
  if (time < last_time_) {
    ++late_;
  } else {
    last_time_ = time;
  }
  return &handed_->next;
}

void RingOrder::ReleaseAll() {
  for (const auto& source : sources_) source->ring->Release();
}

uint64_t RingOrder::malformed() const {
  uint64_t sum = malformed_;
  for (const auto& source : sources_) sum += source->ring->corruptions();
  return sum;
}

}  // namespace lbrd::pmu
