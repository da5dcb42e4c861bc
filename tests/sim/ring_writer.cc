#include "tests/sim/ring_writer.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace lbrd::sim {

std::shared_ptr<RingWriter> RingWriter::Make(uint64_t data_bytes, uint64_t watermark) {
  void* memory = mmap(nullptr, kSimPageBytes + data_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  watermark = std::min(watermark, data_bytes);
  if (watermark == 0) watermark = data_bytes / 2;
  return std::shared_ptr<RingWriter>(new RingWriter(memory, data_bytes, watermark));
}

RingWriter::RingWriter(void* memory, uint64_t data_bytes, uint64_t watermark)
    : memory_(memory), data_bytes_(data_bytes), watermark_(watermark) {
  control()->size = offsetof(perf_event_mmap_page, __reserved);
  control()->data_offset = kSimPageBytes;
  control()->data_size = data_bytes;
}

RingWriter::~RingWriter() { munmap(memory_, kSimPageBytes + data_bytes_); }

void RingWriter::Append(const void* bytes, uint64_t size) {
  std::byte* data = static_cast<std::byte*>(memory_) + kSimPageBytes;
  const uint64_t offset = head_ & (data_bytes_ - 1);
  const uint64_t until_end = std::min(size, data_bytes_ - offset);
  std::memcpy(data + offset, bytes, until_end);
  std::memcpy(data, static_cast<const std::byte*>(bytes) + until_end, size - until_end);
  head_ += size;
}

bool RingWriter::Write(std::span<const uint64_t> record, uint64_t event_id,
                       std::span<const uint64_t> trailer) {
  if (paused_) {
    ++lost_pending_;
    return false;
  }
  struct {
    perf_event_header header;
    uint64_t id;
    uint64_t lost;
  } lost{};
  uint64_t size = record.size_bytes();
  if (lost_pending_ != 0) size += sizeof(lost) + trailer.size_bytes();
  // C: pairs with B of pmu/ring.cc: where we see the reader's tail, it has read what is before it.
  const uint64_t tail =
      std::atomic_ref<__u64>(control()->data_tail).load(std::memory_order_acquire);
  // The kernel's CIRC_SPACE: a ring is full with one byte left, so that full is not empty.
  if (((tail - head_ - 1) & (data_bytes_ - 1)) < size) {
    ++lost_pending_;
    return false;
  }
  if (lost_pending_ != 0) {
    lost.header = {.type = PERF_RECORD_LOST,
                   .misc = 0,
                   .size = static_cast<uint16_t>(sizeof(lost) + trailer.size_bytes())};
    lost.id = event_id;
    lost.lost = lost_pending_;
    lost_pending_ = 0;
    Append(&lost, sizeof(lost));
    Append(trailer.data(), trailer.size_bytes());
  }
  Append(record.data(), record.size_bytes());
  // D: pairs with A of pmu/ring.cc: who sees this head, sees the records before it.
  std::atomic_ref<__u64>(control()->data_head).store(head_, std::memory_order_release);
  if (head_ - wakeup_ > watermark_) {
    wakeup_ += watermark_;
    readable_ = true;
  }
  return true;
}

void RingWriter::CountSample(uint32_t wakeup_events) {
  if (++samples_ < wakeup_events) return;
  samples_ = 0;
  readable_ = true;
}

}  // namespace lbrd::sim
