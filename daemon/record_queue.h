// The crossing from the reader to a worker: raw records in batches, bounded in bytes.
//
// The reader copies a record once, out of the ring, into the batch it is filling; a batch crosses
// when it is full or the reader has nothing left to read.
//
// Thread rules: one pusher, one popper.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/sample_share.h"
#include "pmu/record_source.h"

namespace lbrd::daemon {

// An event index for records that RecordWriter made: their format is RecordFormat{}.
inline constexpr uint32_t kMadeHere = pmu::kMadeRecord;

class RecordBatch {
 public:
  struct Item {
    size_t word;  // where the record begins in words
    uint32_t event;
    uint32_t share_count = 0;
    size_t first_share = 0;
  };
  void Append(const perf_event_header* header, uint32_t event,
              std::span<const SampleShare> shares = {});
  size_t bytes() const {
    return words_.size() * 8 + items_.size() * sizeof(Item) + shares_.size() * sizeof(SampleShare);
  }
  bool empty() const { return items_.empty() && departure_ == nullptr; }
  // Who leaves after the batch's records.
  void set_departure(std::shared_ptr<Departure> departure) { departure_ = std::move(departure); }
  Departure* departure() const { return departure_.get(); }
  const std::vector<Item>& items() const { return items_; }
  const perf_event_header* record(const Item& item) const {
    return reinterpret_cast<const perf_event_header*>(words_.data() + item.word);
  }
  std::span<const SampleShare> shares(const Item& item) const {
    return std::span(shares_).subspan(item.first_share, item.share_count);
  }

 private:
  std::vector<uint64_t> words_;
  std::vector<Item> items_;
  std::vector<SampleShare> shares_;
  std::shared_ptr<Departure> departure_;
};

class RecordQueue {
 public:
  // Never refuses: the pusher asks bytes() first, and drops what it may.
  void Push(RecordBatch batch);
  // Blocks until at most `bytes` are queued.
  void WaitForRoom(size_t bytes);
  // Blocks for a batch; nullopt: closed and empty.
  std::optional<RecordBatch> Pop();
  void Close();
  size_t bytes() const;

 private:
  mutable absl::Mutex mutex_;
  std::deque<RecordBatch> batches_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lbrd::daemon
