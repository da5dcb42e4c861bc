#include "daemon/record_queue.h"

#include <cstring>
#include <utility>

namespace lbrd::daemon {
namespace {

// What a batch usually takes before it crosses: 256 KiB, and a record of 64 KiB beyond.
constexpr size_t kBatchWords = (size_t{320} << 10) / 8;
// Of some 300 bytes; larger ones are fewer.
constexpr size_t kBatchItems = 1024;
// One that takes more is not filled again.
constexpr size_t kMostReused = size_t{1} << 20;

}  // namespace

inline void RecordBatch::Reserve() {
  // Growing by doubling would copy large samples again and again; but those may be kept elsewhere.
  if (words_.capacity() != 0 || !kept_.empty()) return;
  words_.reserve(kBatchWords);
  items_.reserve(kBatchItems);
}

inline void RecordBatch::Copy(const std::byte* from, size_t bytes) {
  if (bytes % 8 == 0) {
    const auto* words = reinterpret_cast<const uint64_t*>(from);
    words_.insert(words_.end(), words, words + bytes / 8);
    return;
  }
  const size_t word = words_.size();
  words_.resize(word + bytes / 8 + 1);
  std::memcpy(words_.data() + word, from, bytes);
}

inline RecordBatch::Item& RecordBatch::AddItem(size_t word, uint32_t event,
                                               std::span<const SampleShare> shares) {
  Item& item = items_.emplace_back(Item{.word = word,
                                        .event = event,
                                        .share_count = static_cast<uint32_t>(shares.size()),
                                        .first_share = shares_.size()});
  shares_.insert(shares_.end(), shares.begin(), shares.end());
  return item;
}

void RecordBatch::Append(const perf_event_header* header, uint32_t event,
                         std::span<const SampleShare> shares,
                         const std::optional<pmu::EmptyStack>& empty) {
  Reserve();
  const size_t word = words_.size();
  if (empty.has_value()) {
    pmu::AppendWithout(header, *empty, &words_);
  } else {
    Copy(reinterpret_cast<const std::byte*>(header), header->size);
  }
  AddItem(word, event, shares);
}

void RecordBatch::AppendKept(const perf_event_header* header, uint32_t event,
                             const pmu::KeptRecord& kept, std::span<const SampleShare> shares) {
  const size_t word = words_.size();
  words_.push_back(reinterpret_cast<uintptr_t>(header));
  AddItem(word, event, shares).kept = 1;
  kept_.push_back(kept);
  kept_bytes_ += header->size;
  ++looked_at_;
}

void RecordBatch::AppendSplit(const pmu::RawRecord& record,
                              const std::optional<pmu::KeptRecord>& kept,
                              std::span<const SampleShare> shares) {
  Stack stack{.copy = record.stack};
  if (kept.has_value()) {
    kept_.push_back(*kept);
    kept_bytes_ += record.stack.bytes;
    ++looked_at_;
  } else {
    Reserve();
    stack = {.copy = {.bytes = record.stack.bytes, .asked = record.stack.asked},
             .word = words_.size()};
    Copy(record.stack.begin, record.stack.bytes);
  }
  const size_t word = words_.size() + kStackWords;
  words_.resize(word);
  std::memcpy(words_.data() + word - kStackWords, &stack, sizeof(stack));
  Copy(reinterpret_cast<const std::byte*>(record.header), record.header->size);
  AddItem(word, record.event, shares).split = 1;
}

unwind::ResolvedStack* RecordBatch::Resolve(size_t item) {
  Item& resolved = items_[item];
  resolved.resolved = 1;
  if (resolved.split != 0 && stack_of(resolved).copy.begin != nullptr) --looked_at_;
  if (resolved_size_ == resolved_.size()) resolved_.emplace_back();
  return &resolved_[resolved_size_++];
}

std::vector<pmu::KeptRecord> RecordBatch::TakeKept() {
  if (looked_at_ != 0) return {};
  kept_bytes_ = 0;
  return std::exchange(kept_, {});
}

RecordBatch::Stack RecordBatch::stack_of(const Item& item) const {
  Stack stack;
  std::memcpy(static_cast<void*>(&stack), words_.data() + item.word - kStackWords, sizeof(stack));
  return stack;
}

pmu::StackCopy RecordBatch::stack(const Item& item) const {
  if (item.split == 0 || item.resolved != 0) return {};
  Stack stack = stack_of(item);
  if (stack.copy.begin == nullptr) {
    stack.copy.begin = reinterpret_cast<const std::byte*>(words_.data() + stack.word);
  }
  return stack.copy;
}

size_t RecordBatch::resolved_bytes() const {
  size_t bytes = 0;
  for (size_t i = 0; i < resolved_size_; ++i) {
    bytes += sizeof(resolved_[i]) + resolved_[i].frames.size() * sizeof(unwind::ResolvedFrame);
  }
  return bytes;
}

bool RecordBatch::Clear() {
  size_t frames = 0;
  for (const unwind::ResolvedStack& stack : resolved_) frames += stack.frames.capacity();
  if (words_.capacity() * sizeof(words_[0]) + items_.capacity() * sizeof(Item) +
          shares_.capacity() * sizeof(SampleShare) + resolved_.capacity() * sizeof(resolved_[0]) +
          frames * sizeof(unwind::ResolvedFrame) >
      kMostReused) {
    *this = {};
  }
  words_.clear();
  items_.clear();
  shares_.clear();
  resolved_size_ = 0;
  kept_.clear();
  kept_bytes_ = 0;
  looked_at_ = 0;
  departure_ = nullptr;
  return words_.capacity() != 0;
}

void RecordQueue::Push(RecordBatch batch) {
  absl::MutexLock lock(&mutex_);
  bytes_ += batch.bytes();
  batches_.push_back(std::move(batch));
}

void RecordQueue::WaitForRoom(size_t bytes) {
  absl::MutexLock lock(&mutex_);
  const auto room = [this, bytes]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return bytes_ <= bytes || closed_;
  };
  mutex_.Await(absl::Condition(&room));
}

std::optional<RecordBatch> RecordQueue::Pop(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !batches_.empty() || closed_;
  };
  if (!mutex_.AwaitWithDeadline(absl::Condition(&ready), deadline)) return RecordBatch();
  if (batches_.empty()) return std::nullopt;
  RecordBatch batch = std::move(batches_.front());
  batches_.pop_front();
  bytes_ -= batch.bytes();
  return batch;
}

void RecordQueue::GiveBack(RecordBatch batch) {
  GiveBack(batch.kept());
  if (!batch.Clear()) return;
  absl::MutexLock lock(&mutex_);
  if (spare_.size() < spare_batches_) spare_.push_back(std::move(batch));
}

void RecordQueue::GiveBack(std::vector<pmu::KeptRecord> kept) {
  if (kept.empty()) return;
  absl::MutexLock lock(&mutex_);
  given_back_.insert(given_back_.end(), kept.begin(), kept.end());
}

RecordBatch RecordQueue::TakeSpare() {
  absl::MutexLock lock(&mutex_);
  if (spare_.empty()) return {};
  RecordBatch batch = std::move(spare_.back());
  spare_.pop_back();
  return batch;
}

std::vector<pmu::KeptRecord> RecordQueue::TakeBack() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(given_back_, {});
}

void RecordQueue::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
}

size_t RecordQueue::bytes() const {
  absl::MutexLock lock(&mutex_);
  return bytes_;
}

}  // namespace lbrd::daemon
