// The crossing from the reader to a worker: raw records in batches, bounded in bytes.
//
// The reader copies a record once, out of the ring, into the batch it is filling, without what the
// kernel left empty of a stack copy; a batch crosses when it is full or the reader has nothing left
// to read. Of a source that keeps records the batch only says where they are. The worker gives a
// batch back when it is done with it: what is kept can be let go, and the batch's memory be filled
// again. (From the heap it would come without pages, and a fault for each page of a stack copy
// costs more than the copy.)
//
// Memory: what is queued, which the pusher bounds, and spare batches of at most 1 MiB each.
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
#include "absl/time/time.h"
#include "daemon/sample_share.h"
#include "pmu/empty_stack.h"
#include "pmu/record_source.h"
#include "unwind/resolved_stack.h"

namespace lbrd::daemon {

// An event index for records that RecordWriter made: their format is RecordFormat{}.
inline constexpr uint32_t kMadeHere = pmu::kMadeRecord;

class RecordBatch {
 public:
  struct Item {
    size_t word;  // where in words the record begins, or what says where it is kept
    uint32_t event;
    uint32_t kept : 1 = 0;
    uint32_t split : 1 = 0;     // a Stack stands before the record
    uint32_t resolved : 1 = 0;  // a stack of resolved() is this sample's
    uint32_t share_count : 29 = 0;
    size_t first_share = 0;
  };
  // `empty`: what of it is left out.
  void Append(const perf_event_header* header, uint32_t event,
              std::span<const SampleShare> shares = {},
              const std::optional<pmu::EmptyStack>& empty = std::nullopt);
  // A record that its source keeps.
  void AppendKept(const perf_event_header* header, uint32_t event, const pmu::KeptRecord& kept,
                  std::span<const SampleShare> shares);
  // A sample whose stack stands elsewhere: copied too, unless its source keeps it.
  void AppendSplit(const pmu::RawRecord& record, const std::optional<pmu::KeptRecord>& kept,
                   std::span<const SampleShare> shares);
  // Room for the resolved stack of an item (ResolveAhead), one after the other in the items' order.
  // The copy that it was unwound from is not looked at any more.
  unwind::ResolvedStack* Resolve(size_t item);
  std::span<unwind::ResolvedStack> resolved() { return std::span(resolved_).first(resolved_size_); }
  // What the source is to let go when the batch is done with.
  const std::vector<pmu::KeptRecord>& kept() const { return kept_; }
  // The same, taken out before, if nobody looks at any of it any more.
  std::vector<pmu::KeptRecord> TakeKept();
  size_t bytes() const {
    return kept_bytes_ + words_.size() * 8 + items_.size() * sizeof(Item) +
           shares_.size() * sizeof(SampleShare) + (resolved_size_ == 0 ? 0 : resolved_bytes());
  }
  size_t kept_bytes() const { return kept_bytes_; }  // of these, where the source has them
  bool empty() const { return items_.empty() && departure_ == nullptr; }
  // Empty again, with the memory it had, unless that is more than a batch usually takes. Returns
  // whether it has any.
  bool Clear();
  // Who leaves after the batch's records.
  void set_departure(std::shared_ptr<Departure> departure) { departure_ = std::move(departure); }
  Departure* departure() const { return departure_.get(); }
  const std::vector<Item>& items() const { return items_; }
  const perf_event_header* record(const Item& item) const {
    if (item.kept != 0) return reinterpret_cast<const perf_event_header*>(words_[item.word]);
    return reinterpret_cast<const perf_event_header*>(words_.data() + item.word);
  }
  absl::StatusOr<pmu::Record> Decode(const Item& item, const pmu::RecordFormat& format) const {
    if (item.split == 0) return pmu::DecodeRecord(record(item), format);
    return pmu::DecodeSplit(record(item), stack(item), format);
  }
  std::span<const SampleShare> shares(const Item& item) const {
    return std::span(shares_).subspan(item.first_share, item.share_count);
  }

 private:
  // What stands before a record that was split.
  struct Stack {
    pmu::StackCopy copy;  // without a begin, it
    size_t word = 0;      // begins here
  };
  static constexpr size_t kStackWords = sizeof(Stack) / 8;
  Stack stack_of(const Item& item) const;
  size_t resolved_bytes() const;
  pmu::StackCopy stack(const Item& item) const;  // empty once it is resolved
  void Reserve();
  void Copy(const std::byte* from, size_t bytes);  // to the end of words_; from is 8-byte aligned
  Item& AddItem(size_t word, uint32_t event, std::span<const SampleShare> shares);

  std::vector<uint64_t> words_;
  std::vector<Item> items_;
  std::vector<SampleShare> shares_;
  std::vector<unwind::ResolvedStack> resolved_;  // those behind the first resolved_size_ are spare
  size_t resolved_size_ = 0;
  std::vector<pmu::KeptRecord> kept_;
  size_t kept_bytes_ = 0;  // of the records
  size_t looked_at_ = 0;   // items that still need what is kept
  std::shared_ptr<Departure> departure_;
};

class RecordQueue {
 public:
  static constexpr size_t kSpareBatches = 8;
  explicit RecordQueue(size_t spare_batches = kSpareBatches) : spare_batches_(spare_batches) {}

  // Never refuses: the pusher asks bytes() first, and drops what it may.
  void Push(RecordBatch batch);
  // Blocks until at most `bytes` are queued.
  void WaitForRoom(size_t bytes);
  // Blocks for a batch; nullopt: closed and empty. An empty one at the deadline.
  std::optional<RecordBatch> Pop(absl::Time deadline = absl::InfiniteFuture());
  // By the popper, who is done with a batch, or with what of it is kept.
  void GiveBack(RecordBatch batch);
  void GiveBack(std::vector<pmu::KeptRecord> kept);
  // By the pusher: what is to be let go, and an empty batch.
  std::vector<pmu::KeptRecord> TakeBack();
  RecordBatch TakeSpare();
  void Close();
  size_t bytes() const;

 private:
  const size_t spare_batches_;
  mutable absl::Mutex mutex_;
  std::deque<RecordBatch> batches_ ABSL_GUARDED_BY(mutex_);
  std::vector<pmu::KeptRecord> given_back_ ABSL_GUARDED_BY(mutex_);
  std::vector<RecordBatch> spare_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lbrd::daemon
