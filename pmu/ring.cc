#include "pmu/ring.h"

#include <atomic>
#include <cstring>

namespace lbrd::pmu {

Ring::Ring(void* control, uint64_t page_bytes, uint64_t data_bytes)
    : control_(static_cast<perf_event_mmap_page*>(control)),
      data_(static_cast<const std::byte*>(control) + page_bytes),
      mask_(data_bytes - 1) {
  tail_ = cursor_ = head_ = control_->data_tail;
}

void Ring::Refresh() {
  // A: pairs with the kernel's barrier between writing records and storing data_head
  // (perf_output_put_handle): a head that we see covers records that we see.
  const uint64_t head = std::atomic_ref<__u64>(control_->data_head).load(std::memory_order_acquire);
  if (head % 8 != 0) ++corruptions_;
  head_ = head & ~uint64_t{7};
}

const perf_event_header* Ring::Peek() {
  if (cursor_ == head_) return nullptr;
  const uint64_t offset = cursor_ & mask_;
  const auto* header = reinterpret_cast<const perf_event_header*>(data_ + offset);
  // The kernel keeps records 8-byte aligned, so a header never wraps.
  const uint64_t size = header->size;
  const uint64_t left = head_ - cursor_;
  if (left > data_bytes() || size < sizeof(perf_event_header) || size % 8 != 0 || size > left) {
    ++corruptions_;
    cursor_ = head_;
    return nullptr;
  }
  const uint64_t until_end = mask_ + 1 - offset;
  if (size <= until_end) return header;
  if (wrapped_ == nullptr) wrapped_ = std::make_unique<uint64_t[]>(kMaxRecordBytes / 8);
  auto* whole = reinterpret_cast<std::byte*>(wrapped_.get());
  std::memcpy(whole, data_ + offset, until_end);
  std::memcpy(whole + until_end, data_, size - until_end);
  return reinterpret_cast<const perf_event_header*>(whole);
}

void Ring::Advance() {
  cursor_ += reinterpret_cast<const perf_event_header*>(data_ + (cursor_ & mask_))->size;
}

void Ring::Release() {
  if (tail_ == cursor_) return;
  tail_ = cursor_;
  // B: pairs with the kernel's control dependency on data_tail (__perf_output_begin): our reads of
  // the records are over before it may write over them.
  std::atomic_ref<__u64>(control_->data_tail).store(tail_, std::memory_order_release);
}

}  // namespace lbrd::pmu
