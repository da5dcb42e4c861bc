// One CPU's ring buffer, read in place.
//
// Layout (see perf_event_mmap_page in <linux/perf_event.h>): a control page, then a power of two of
// bytes of records. The kernel writes at data_head and never past data_tail, which is ours; both
// only grow. A record may wrap around the end of the buffer: only those are copied.
//
// Thread rules: one thread reads a ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "pmu/abi.h"

namespace lbrd::pmu {

class Ring {
 public:
  // `control` is the mapping: `page_bytes` of control page, then `data_bytes` (a power of two).
  // Borrows the mapping.
  Ring(void* control, uint64_t page_bytes, uint64_t data_bytes);

  // Takes notice of what the kernel has written meanwhile.
  void Refresh();
  // The record at the cursor, 8-byte aligned, or nullptr when none is left since Refresh(). Valid
  // until Advance().
  const perf_event_header* Peek();
  void Advance();
  // Gives everything before the cursor back to the kernel.
  void Release();

  // Bytes read past but not yet given back.
  uint64_t held_bytes() const { return cursor_ - tail_; }
  uint64_t data_bytes() const { return mask_ + 1; }
  // The ring's content contradicts its format (never from a sane kernel): what was left is skipped.
  uint64_t corruptions() const { return corruptions_; }

 private:
  perf_event_mmap_page* control_;
  const std::byte* data_;
  uint64_t mask_;
  uint64_t head_ = 0;
  uint64_t cursor_ = 0;
  uint64_t tail_ = 0;
  uint64_t corruptions_ = 0;
  std::unique_ptr<uint64_t[]> wrapped_;  // a wrapped record, put together; made on first need
};

}  // namespace lbrd::pmu
