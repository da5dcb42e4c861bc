// One CPU's ring buffer, read in place. Records may also be held there while the cursor goes on, so
// that another thread can read them where they are.
//
// Layout (see perf_event_mmap_page in <linux/perf_event.h>): a control page, then a power of two of
// bytes of records. The kernel writes at data_head and never past data_tail, which is ours; both
// only grow. A record may wrap around the end of the buffer: only those are copied.
//
// Thread rules: one thread has a ring. Who reads a held record on another thread is done with it,
// and that has been seen by this one, before LetGo().
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "pmu/abi.h"

namespace lbrd::pmu {

class Ring {
 public:
  // `control` is the mapping: `page_bytes` of control page, then `data_bytes` (a power of two).
  // Borrows the mapping. `number`: tells it from others of its owner.
  Ring(void* control, uint64_t page_bytes, uint64_t data_bytes, uint32_t number = 0);

  // Takes notice of what the kernel has written meanwhile.
  void Refresh();
  // The record at the cursor, 8-byte aligned, or nullptr when none is left since Refresh(). Valid
  // until Advance().
  const perf_event_header* Peek();
  void Advance();
  // The record at the cursor stays where it is until LetGo() of this number. nullopt: it wraps, or
  // so much is held or read already that the kernel may soon lack room; it is to be copied.
  std::optional<uint64_t> Hold();
  void LetGo(uint64_t number);
  bool holds() const { return !held_.empty(); }
  // Gives everything before the cursor, and before what is held, back to the kernel.
  void Release();

  // Bytes read past but not yet given back.
  uint64_t unreleased_bytes() const { return cursor_ - tail_; }
  uint32_t number() const { return number_; }
  uint64_t data_bytes() const { return mask_ + 1; }
  // The ring's content contradicts its format (never from a sane kernel): what was left is skipped.
  uint64_t corruptions() const { return corruptions_; }

 private:
  struct Held {
    uint64_t at;
    bool gone = false;
  };

  perf_event_mmap_page* control_;
  const std::byte* data_;
  uint64_t mask_;
  uint32_t number_;
  uint64_t head_ = 0;
  uint64_t cursor_ = 0;
  uint64_t tail_ = 0;
  uint64_t corruptions_ = 0;
  std::deque<Held> held_;                // but for the first, some may be gone
  uint64_t first_number_ = 0;            // held_.front()'s
  std::unique_ptr<uint64_t[]> wrapped_;  // a wrapped record, put together; made on first need
};

}  // namespace lbrd::pmu
