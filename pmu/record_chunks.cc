#include "pmu/record_chunks.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace lbrd::pmu {
namespace {

constexpr size_t kAlignment = alignof(uint64_t);
// Chunks kept for their next use; more than that go back to the allocator, and cost page faults
// when they come again. As many as some rounds of perf record with large rings.
constexpr size_t kSpareChunks = 32;

std::byte* NewMemory(size_t bytes) {
  const bool huge = bytes % ChunkPool::kHugePageBytes == 0;
  const size_t alignment = huge ? ChunkPool::kHugePageBytes : kAlignment;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  // Filling fresh memory takes longer by its page faults than by its bytes. Where there are no huge
  // pages this changes nothing.
  if (huge) madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

}  // namespace

void ChunkPool::FreeMemory::operator()(std::byte* memory) const { std::free(memory); }

uint32_t ChunkPool::Acquire() {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(chunks_.size()));
    chunks_.emplace_back();
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  Chunk& chunk = chunks_[index];
  if (chunk.memory == nullptr) chunk.memory.reset(NewMemory(chunk_bytes_));
  chunk.users = 1;
  ++used_chunks_;
  return index;
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
  if (free_.size() >= kSpareChunks) chunks_[chunk].memory.reset();
  free_.push_back(chunk);
}

RecordAssembler::~RecordAssembler() {
  if (chunk_ != ChunkPool::kNone) pool_->Release(chunk_);
  if (copies_ != ChunkPool::kNone) pool_->Release(copies_);
}

std::span<std::byte> RecordAssembler::Room() {
  // A chunk's last bytes are not worth a read of their own unless they complete the record at hand.
  const size_t rest = buffered();
  if (chunk_ == ChunkPool::kNone || end_ == pool_->chunk_bytes() ||
      pool_->chunk_bytes() - begin_ < kMaxRecordBytes) {
    const uint32_t next = pool_->Acquire();
    if (rest != 0) memcpy(pool_->data(next), pool_->data(chunk_) + begin_, rest);
    if (chunk_ != ChunkPool::kNone) pool_->Release(chunk_);
    chunk_ = next;
    begin_ = 0;
    end_ = rest;
  }
  return std::span(pool_->data(chunk_) + end_, pool_->chunk_bytes() - end_);
}

RecordAssembler::State RecordAssembler::Peek() {
  const size_t rest = buffered();
  if (rest < sizeof(perf_event_header)) return State::kPartial;
  const std::byte* front = pool_->data(chunk_) + begin_;
  perf_event_header header;
  memcpy(&header, front, sizeof(header));
  if (header.size < sizeof(header)) return State::kMalformed;
  if (rest < header.size) return State::kPartial;
  if (begin_ % kAlignment == 0) {
    header_ = reinterpret_cast<const perf_event_header*>(front);
    header_chunk_ = chunk_;
  } else {
    Align(header.size);
  }
  return State::kWhole;
}

void RecordAssembler::Align(uint16_t size) {
  if (copies_ == ChunkPool::kNone || pool_->chunk_bytes() - copies_end_ < size) {
    if (copies_ != ChunkPool::kNone) pool_->Release(copies_);
    copies_ = pool_->Acquire();
    copies_end_ = 0;
  }
  std::byte* copy = pool_->data(copies_) + copies_end_;
  memcpy(copy, pool_->data(chunk_) + begin_, size);
  copies_end_ += (size_t{size} + kAlignment - 1) / kAlignment * kAlignment;
  header_ = reinterpret_cast<const perf_event_header*>(copy);
  header_chunk_ = copies_;
}

}  // namespace lbrd::pmu
