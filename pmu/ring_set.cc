#include "pmu/ring_set.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

RingSet::~RingSet() {
  for (const Mapped& mapped : rings_) kernel_.UnmapRing(mapped.memory, mapped.bytes);
}

absl::StatusOr<Ring*> RingSet::Map(const Event& event, uint64_t bytes, absl::string_view where) {
  const Event::Use use(event);
  int error = 0;
  void* memory = kernel_.MapRing(use.fd(), bytes, &error);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot map a ring of ", bytes >> 10, " KiB for ", where, ": ", strerror(error),
        "; ask for smaller rings, or raise kernel.perf_event_mlock_kb"));
  }
  rings_.push_back({use.fd(), memory, bytes, /*retired=*/false,
                    std::make_unique<Ring>(memory, kernel_.PageBytes(), bytes)});
  ++live_;
  ++changes_;
  mapped_bytes_ += bytes;
  order_.Add(rings_.back().ring.get());
  return rings_.back().ring.get();
}

void RingSet::Retire(Ring* ring) {
  for (Mapped& mapped : rings_) {
    if (mapped.ring.get() != ring || mapped.retired) continue;
    mapped.fd = -1;
    mapped.retired = true;
    --live_;
    ++changes_;
    order_.Retire(ring);
  }
}

void RingSet::UnmapDrained() {
  for (const Ring* ring : order_.TakeDrained()) {
    const auto found = std::find_if(rings_.begin(), rings_.end(), [ring](const Mapped& mapped) {
      return mapped.ring.get() == ring;
    });
    kernel_.UnmapRing(found->memory, found->bytes);
    mapped_bytes_ -= found->bytes;
    rings_.erase(found);
  }
}

void RingSet::AppendPoll(std::vector<pollfd>* out) const {
  for (const Mapped& mapped : rings_) {
    if (mapped.fd >= 0) out->push_back({mapped.fd, POLLIN, 0});
  }
}

void RingSet::TakePoll(const std::vector<pollfd>& entries,
                       const std::function<void(Ring*)>& hung_up) {
  std::vector<Ring*> gone;
  for (const pollfd& entry : entries) {
    if ((entry.revents & (POLLHUP | POLLERR)) == 0) continue;
    for (Mapped& mapped : rings_) {
      if (mapped.fd != entry.fd) continue;
      mapped.fd = -1;  // ready for good: it must not keep waking us
      ++changes_;
      gone.push_back(mapped.ring.get());
    }
  }
  for (Ring* ring : gone) hung_up(ring);
}

void RingSet::ForEachWaiting(const std::function<void(const perf_event_header*)>& take) const {
  for (const Mapped& mapped : rings_) {
    // A reader of its own, so that the records stay where they are for the session.
    Ring ring(mapped.memory, kernel_.PageBytes(), mapped.bytes);
    ring.Refresh();
    while (const perf_event_header* header = ring.Peek()) {
      take(header);
      ring.Advance();
    }
  }
}

}  // namespace lbrd::pmu
