#include "pmu/record_chunks.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace lbrd::pmu {
namespace {

constexpr size_t kAlignment = alignof(uint64_t);

// Samples of at least so many bytes are not copied out of a window as a whole.
constexpr size_t kLargeSample = 1024;
// More than stands before the last of what PeekRecord() and PerfDataEvents::EventOf() look at.
constexpr size_t kLeadBytes = 128;

constexpr size_t Aligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// `filled`: all of it will be, so that it may as well come in huge pages.
std::byte* NewMemory(size_t bytes, bool filled) {
  const bool huge = bytes % ChunkPool::kHugePageBytes == 0;
  const size_t alignment = huge ? ChunkPool::kHugePageBytes : kAlignment;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  // Filling fresh memory takes longer by its page faults than by its bytes. Where there are no huge
  // pages this changes nothing.
  if (huge) madvise(memory, bytes, filled ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return static_cast<std::byte*>(memory);
}

}  // namespace

void ChunkPool::FreeMemory::operator()(std::byte* memory) const { std::free(memory); }

uint32_t ChunkPool::Take(bool filled) {
  std::vector<uint32_t>& free = spare_.empty() ? empty_ : spare_;
  if (free.empty()) {
    free.push_back(static_cast<uint32_t>(chunks_.size()));
    chunks_.emplace_back();
  }
  const uint32_t index = free.back();
  free.pop_back();
  Chunk& chunk = chunks_[index];
  if (chunk.memory == nullptr) chunk.memory.reset(NewMemory(chunk_bytes_, filled));
  chunk.users = 1;
  ++used_chunks_;
  return index;
}

uint32_t ChunkPool::Acquire() { return Take(/*filled=*/true); }

uint32_t ChunkPool::Acquire(FileWindow window) {
  const uint32_t chunk = Take(/*filled=*/false);
  chunks_[chunk].window = std::move(window);
  return chunk;
}

void ChunkPool::Release(uint32_t chunk) {
  if (--chunks_[chunk].users != 0) return;
  --used_chunks_;
  if (chunks_[chunk].keepers == 0) Free(chunk);
}

bool ChunkPool::Keep(uint32_t chunk) {
  uint32_t& keepers = chunks_[chunk].keepers;
  if (keepers == 0) {
    if (kept_chunks_ >= kMaxKeptChunks) return false;
    ++kept_chunks_;
  }
  ++keepers;
  return true;
}

void ChunkPool::LetGo(uint32_t chunk) {
  if (--chunks_[chunk].keepers != 0) return;
  --kept_chunks_;
  if (chunks_[chunk].users == 0) Free(chunk);
}

void ChunkPool::Free(uint32_t chunk) {
  chunks_[chunk].window = {};
  if (spare_.size() < kSpareChunks) return spare_.push_back(chunk);
  chunks_[chunk].memory.reset();
  empty_.push_back(chunk);
}

RecordAssembler::~RecordAssembler() {
  if (chunk_ != ChunkPool::kNone) pool_->Release(chunk_);
  if (copies_ != ChunkPool::kNone) pool_->Release(copies_);
}

std::span<std::byte> RecordAssembler::Room() {
  // A chunk's last bytes are not worth a read of their own unless they complete the record at hand.
  const size_t rest = buffered();
  if (chunk_ == ChunkPool::kNone || windowed_ || end_ == pool_->chunk_bytes() ||
      pool_->chunk_bytes() - begin_ < kMaxRecordBytes) {
    const uint32_t next = pool_->Acquire();
    if (rest != 0) memcpy(pool_->data(next), front(), rest);
    if (chunk_ != ChunkPool::kNone) pool_->Release(chunk_);
    chunk_ = next;
    windowed_ = false;
    begin_ = 0;
    end_ = rest;
  }
  return std::span(pool_->data(chunk_) + end_, pool_->chunk_bytes() - end_);
}

void RecordAssembler::Show(FileWindow window, size_t begin) {
  if (chunk_ != ChunkPool::kNone) pool_->Release(chunk_);
  if (copies_ != ChunkPool::kNone) pool_->Release(copies_);
  end_ = window.bytes().size();
  begin_ = begin;
  chunk_ = pool_->Acquire(std::move(window));
  windowed_ = true;
  pool_->AddUser(chunk_);
  copies_ = chunk_;
  copies_end_ = 0;
}

RecordAssembler::State RecordAssembler::Peek() {
  const size_t rest = buffered();
  if (rest < sizeof(perf_event_header)) return State::kPartial;
  perf_event_header header;
  memcpy(&header, front(), sizeof(header));
  if (header.size < sizeof(header)) return State::kMalformed;
  if (rest < header.size) return State::kPartial;
  size_ = header.size;
  in_window_ = false;
  if (windowed_) return CopyOut(header);
  if (begin_ % kAlignment == 0) {
    header_ = reinterpret_cast<const perf_event_header*>(front());
    header_chunk_ = chunk_;
  } else {
    Align(header.size);
  }
  return State::kWhole;
}

void RecordAssembler::Align(uint16_t size) {
  if (copies_ == ChunkPool::kNone || pool_->chunk_bytes() - copies_end_ < Aligned(size)) {
    if (copies_ != ChunkPool::kNone) pool_->Release(copies_);
    copies_ = pool_->Acquire();
    copies_end_ = 0;
  }
  memcpy(Copies(), front(), size);
  header_ = reinterpret_cast<const perf_event_header*>(Copies());
  header_chunk_ = copies_;
  copies_end_ += Aligned(size);
}

RecordAssembler::State RecordAssembler::CopyOut(const perf_event_header& header) {
  if (pool_->chunk_bytes() - copies_end_ < Aligned(size_)) return State::kNoRoom;
  in_window_ =
      header.type == PERF_RECORD_SAMPLE && size_ >= kLargeSample && begin_ % kAlignment == 0;
  perf_event_header own = header;
  own.size = static_cast<uint16_t>(in_window_ ? kLeadBytes : size_);
  memcpy(Copies(), &own, sizeof(own));
  memcpy(Copies() + sizeof(own), front() + sizeof(own), own.size - sizeof(own));
  header_ = reinterpret_cast<const perf_event_header*>(Copies());
  header_chunk_ = copies_;
  // Split() makes more of a lead.
  if (!in_window_) copies_end_ += Aligned(size_);
  return State::kWhole;
}

StackCopy RecordAssembler::Split(const RecordFormat& format) {
  perf_event_header header = *header_;
  header.size = static_cast<uint16_t>(size_);
  const std::span<const std::byte> fields(front() + sizeof(header), size_ - sizeof(header));
  std::optional<SplitSample> split = lbrd::pmu::Split(header, fields, format, Copies());
  if (!split.has_value()) {
    split = {.stack = {}, .record_bytes = size_};
    memcpy(Copies(), &header, sizeof(header));
    memcpy(Copies() + sizeof(header), fields.data(), fields.size());
  }
  copies_end_ += Aligned(split->record_bytes);
  in_window_ = false;
  return split->stack;
}

}  // namespace lbrd::pmu
