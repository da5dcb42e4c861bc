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
  AddItem({.word = word, .event = event}, shares);
}

void RecordBatch::AppendKept(const perf_event_header* header, uint32_t event,
                             const pmu::KeptRecord& kept, std::span<const SampleShare> shares) {
  const size_t word = words_.size();
  words_.push_back(reinterpret_cast<uintptr_t>(header));
  AddItem({.word = word, .event = event, .kept = 1}, shares);
  kept_.push_back(kept);
  kept_bytes_ += header->size;
}

void RecordBatch::AppendSplit(const pmu::RawRecord& record,
                              const std::optional<pmu::KeptRecord>& kept,
                              std::span<const SampleShare> shares) {
  Reserve();
  Stack stack{.copy = record.stack};
  if (kept.has_value()) {
    kept_.push_back(*kept);
    kept_bytes_ += record.stack.bytes;
  } else {
    stack = {.copy = {.bytes = record.stack.bytes, .asked = record.stack.asked},
             .word = words_.size()};
    Copy(record.stack.begin, record.stack.bytes);
  }
  const size_t word = words_.size() + kStackWords;
  words_.resize(word);
  std::memcpy(words_.data() + word - kStackWords, &stack, sizeof(stack));
  Copy(reinterpret_cast<const std::byte*>(record.header), record.header->size);
  AddItem({.word = word, .event = record.event, .split = 1}, shares);
}

pmu::StackCopy RecordBatch::stack(const Item& item) const {
  if (item.split == 0) return {};
  Stack stack;
  std::memcpy(static_cast<void*>(&stack), words_.data() + item.word - kStackWords, sizeof(stack));
  if (stack.copy.begin == nullptr) {
    stack.copy.begin = reinterpret_cast<const std::byte*>(words_.data() + stack.word);
  }
  return stack.copy;
}

void RecordBatch::Reserve() {
  // Growing by doubling would copy large samples again and again; but those may be kept elsewhere.
  if (words_.capacity() != 0 || !kept_.empty()) return;
  words_.reserve(kBatchWords);
  items_.reserve(kBatchItems);
}

void RecordBatch::Copy(const std::byte* from, size_t bytes) {
  if (bytes % 8 == 0) {
    const auto* words = reinterpret_cast<const uint64_t*>(from);
    words_.insert(words_.end(), words, words + bytes / 8);
    return;
  }
  const size_t word = words_.size();
  words_.resize(word + bytes / 8 + 1);
  std::memcpy(words_.data() + word, from, bytes);
}

void RecordBatch::AddItem(Item item, std::span<const SampleShare> shares) {
  item.share_count = static_cast<uint32_t>(shares.size());
  item.first_share = shares_.size();
  items_.push_back(item);
  shares_.insert(shares_.end(), shares.begin(), shares.end());
}

bool RecordBatch::Clear() {
  if (words_.capacity() * sizeof(words_[0]) + items_.capacity() * sizeof(Item) +
          shares_.capacity() * sizeof(SampleShare) >
      kMostReused) {
    *this = {};
  }
  words_.clear();
  items_.clear();
  shares_.clear();
  resolved_.clear();
  kept_.clear();
  kept_bytes_ = 0;
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
  if (batch.kept().empty()) return Reuse(std::move(batch));
  absl::MutexLock lock(&mutex_);
  given_back_.push_back(std::move(batch));
}

void RecordQueue::Reuse(RecordBatch batch) {
  if (!batch.Clear()) return;
  absl::MutexLock lock(&mutex_);
  if (spare_.size() < kSpareBatches) spare_.push_back(std::move(batch));
}

RecordBatch RecordQueue::TakeSpare() {
  absl::MutexLock lock(&mutex_);
  if (spare_.empty()) return {};
  RecordBatch batch = std::move(spare_.back());
  spare_.pop_back();
  return batch;
}

std::vector<RecordBatch> RecordQueue::TakeBack() {
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
