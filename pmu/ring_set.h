// The rings of a session: mapped while it runs, read in time order, and given back when their last
// record has been handed out.
//
// Memory: what is mapped, pinned by the kernel, plus 64 KiB per ring that had to wrap.
// Thread rules: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pmu/event.h"
#include "pmu/kernel.h"
#include "pmu/ring.h"
#include "pmu/ring_order.h"

namespace lbrd::pmu {

class RingSet {
 public:
  RingSet(Kernel& kernel, RingOrder::Peek peek) : kernel_(kernel), order_(std::move(peek)) {}
  RingSet(const RingSet&) = delete;
  RingSet& operator=(const RingSet&) = delete;
  ~RingSet();

  // Maps a ring of `bytes` (a power of two of pages) on the event. `where` is for people.
  // kResourceExhausted: what to do.
  absl::StatusOr<Ring*> Map(const Event& event, uint64_t bytes, absl::string_view where);
  // Its events have stopped: what it holds is still handed out, then it is unmapped. Its descriptor
  // is not polled any more, and may be closed.
  void Retire(Ring* ring);
  // Unmaps what Retire() was called for and is empty now. Only while no record is held.
  void UnmapDrained();

  RingOrder& order() { return order_; }
  const RingOrder& order() const { return order_; }
  // Those that are not retired.
  size_t size() const { return live_; }
  uint64_t mapped_bytes() const { return mapped_bytes_; }

  // Appends an entry for each ring that is still worth waiting for.
  void AppendPoll(std::vector<pollfd>* out) const;
  // Takes what poll said of those entries. Rings whose events have hung up are not waited for any
  // more, only read; each is told once to `hung_up`.
  void TakePoll(const std::vector<pollfd>& entries, const std::function<void(Ring*)>& hung_up);
  // Counts up whenever AppendPoll() would give something else.
  uint64_t changes() const { return changes_; }

  // Every record that waits in any ring, left where it is.
  void ForEachWaiting(const std::function<void(const perf_event_header*)>& take) const;

 private:
  struct Mapped {
    int fd;  // of the event whose ring it is; -1: not to be polled
    void* memory;
    uint64_t bytes;
    bool retired;
    std::unique_ptr<Ring> ring;
  };

  Kernel& kernel_;
  RingOrder order_;
  std::vector<Mapped> rings_;
  size_t live_ = 0;
  uint64_t mapped_bytes_ = 0;
  uint64_t changes_ = 0;
};

}  // namespace lbrd::pmu
