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
  // Growing by doubling would copy large samples again and again; but those may be kept elsewhere.
  if (words_.capacity() == 0 && kept_.empty()) {
    words_.reserve(kBatchWords);
    items_.reserve(kBatchItems);
  }
  const size_t word = words_.size();
  if (empty.has_value()) {
    pmu::AppendWithout(header, *empty, &words_);
  } else if (header->size % 8 == 0) {
    const auto* words = reinterpret_cast<const uint64_t*>(header);
    words_.insert(words_.end(), words, words + header->size / 8);
  } else {
    words_.resize(word + header->size / 8 + 1);
    std::memcpy(words_.data() + word, header, header->size);
  }
  items_.push_back({.word = word,
                    .event = event,
                    .share_count = static_cast<uint32_t>(shares.size()),
                    .first_share = shares_.size()});
  shares_.insert(shares_.end(), shares.begin(), shares.end());
}

void RecordBatch::AppendKept(const perf_event_header* header, uint32_t event,
                             const pmu::KeptRecord& kept) {
  items_.push_back({.word = words_.size(), .event = event, .kept = 1});
  words_.push_back(reinterpret_cast<uintptr_t>(header));
  kept_.push_back(kept);
  kept_bytes_ += header->size;
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
