// The kernel's side of a perf ring: control page, records, losses and wake-ups, as the kernel's
// ring_buffer.c does them.
//
// A record is written if it leaves at least one byte free; else it is lost, and the next one that
// fits is preceded by a PERF_RECORD_LOST with the number. Readers are woken each time the head
// passes another watermark.
//
// Memory: the mapping, of which pages never written take none.
// Thread rules: one thread writes; one other may read the mapping (pmu/ring.h) at the same time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "pmu/abi.h"

namespace lbrd::sim {

inline constexpr uint64_t kSimPageBytes = 4096;

class RingWriter {
 public:
  // nullptr: no memory. `watermark` 0: half of the ring.
  static std::shared_ptr<RingWriter> Make(uint64_t data_bytes, uint64_t watermark);
  ~RingWriter();
  RingWriter(const RingWriter&) = delete;
  RingWriter& operator=(const RingWriter&) = delete;

  void* memory() { return memory_; }
  uint64_t data_bytes() const { return data_bytes_; }

  // `record`: whole, header first. `event_id` and `trailer` (the sample_id of that event) go into a
  // PERF_RECORD_LOST if one is due. False: no room; it is counted as lost.
  bool Write(std::span<const uint64_t> record, uint64_t event_id,
             std::span<const uint64_t> trailer);
  // A wake-up by number of samples.
  void CountSample(uint32_t wakeup_events);
  void Wake() { readable_ = true; }

  // Whether poll() finds it readable; asking makes it wait for the next wake-up.
  bool TakeReadable() { return std::exchange(readable_, false); }
  bool readable() const { return readable_; }
  void set_paused(bool paused) { paused_ = paused; }

  uint64_t head() const { return head_; }
  // Lost since the last PERF_RECORD_LOST.
  uint64_t lost_pending() const { return lost_pending_; }

 private:
  RingWriter(void* memory, uint64_t data_bytes, uint64_t watermark);
  perf_event_mmap_page* control() { return static_cast<perf_event_mmap_page*>(memory_); }
  void Append(const void* bytes, uint64_t size);

  void* const memory_;
  const uint64_t data_bytes_;
  const uint64_t watermark_;
  uint64_t head_ = 0;
  uint64_t wakeup_ = 0;  // the head at which the last wake-up was
  uint64_t lost_pending_ = 0;
  uint32_t samples_ = 0;
  bool readable_ = false;
  bool paused_ = false;
};

}  // namespace lbrd::sim
