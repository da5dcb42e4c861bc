// Records put together out of a stream of bytes, without copying them one by one.
//
// Bytes are read in large chunks; records are handed out in place, and a chunk lives as long as it
// has users: the assembler that fills it, and each record that still waits in it. Only the record
// that a chunk's end cuts in two, and records that stand at an odd address, are copied.
//
// A file can be looked at through windows instead. Then all records are copied, to memory of the
// window's chunk, but for the copies of stacks in large samples, which stay in the window.
//
// A record that somebody still reads keeps its chunk as well. Keepers are counted apart, since how
// long they take is up to other threads, and what is in use must not depend on it.
//
// Thread rules: one thread uses a pool and all its assemblers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "pmu/abi.h"
#include "pmu/file_window.h"
#include "pmu/record.h"
#include "pmu/split_sample.h"

namespace lbrd::pmu {

// Chunks of one size, used again when their last user is gone.
class ChunkPool {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  // Chunks kept for their next use; more than that go back to the allocator, and cost page faults
  // when they come again. As many as some rounds of perf record with large rings.
  static constexpr size_t kSpareChunks = 32;
  // Chunks that may have keepers at a time.
  static constexpr size_t kMaxKeptChunks = 32;

  // At least kMaxRecordBytes; with kHugePageBytes it costs the fewest page faults.
  static constexpr size_t kHugePageBytes = size_t{2} << 20;
  explicit ChunkPool(size_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

  // A chunk with one user. Its content is undefined.
  uint32_t Acquire();
  // The same, of a window of at most chunk_bytes(), and memory besides.
  uint32_t Acquire(FileWindow window);
  void AddUser(uint32_t chunk) { ++chunks_[chunk].users; }
  void Release(uint32_t chunk);
  // By a user. False: too much is kept.
  bool Keep(uint32_t chunk);
  void LetGo(uint32_t chunk);

  std::byte* data(uint32_t chunk) const { return chunks_[chunk].memory.get(); }
  std::span<const std::byte> window(uint32_t chunk) const { return chunks_[chunk].window.bytes(); }
  size_t chunk_bytes() const { return chunk_bytes_; }
  // Of chunks that have users.
  uint64_t bytes_in_use() const { return used_chunks_ * chunk_bytes_; }

 private:
  struct FreeMemory {
    void operator()(std::byte* memory) const;
  };
  struct Chunk {
    std::unique_ptr<std::byte, FreeMemory> memory;  // aligned for records, and for huge pages
    FileWindow window;
    uint32_t users = 0;
    uint32_t keepers = 0;
  };
  uint32_t Take(bool filled);
  // Of neither users nor keepers.
  void Free(uint32_t chunk);

  const size_t chunk_bytes_;
  std::vector<Chunk> chunks_;
  std::vector<uint32_t> spare_;  // free, with memory
  std::vector<uint32_t> empty_;  // free, without
  size_t used_chunks_ = 0;
  size_t kept_chunks_ = 0;
};

// Cuts a stream of bytes into records.
class RecordAssembler {
 public:
  explicit RecordAssembler(ChunkPool* pool) : pool_(pool) {}
  RecordAssembler(const RecordAssembler&) = delete;
  RecordAssembler& operator=(const RecordAssembler&) = delete;
  ~RecordAssembler();

  // Where the stream goes on: at least one byte. Invalidates the record of Peek() unless its chunk
  // has another user. Not after a window whose bytes have not all been taken or skipped.
  std::span<std::byte> Room();
  void Filled(size_t bytes) { end_ += bytes; }
  // The stream's front is byte `begin` of the window, and it goes on to the window's end. What was
  // buffered is forgotten; the rest as for Room().
  void Show(FileWindow window, size_t begin);

  // kNoRoom: of a window only, whose chunk has no memory left. Another one, from the front on, has.
  enum class State { kWhole, kPartial, kMalformed, kNoRoom };
  // The record at the front of the stream. Only with kWhole may the other accessors be called.
  State Peek();
  const perf_event_header* header() const { return header_; }  // 8-byte aligned
  uint32_t chunk() const { return header_chunk_; }             // where it lives
  // Goes on to the next record.
  void Take() { begin_ += size_; }

  // The record is the begin of a large sample in a window: enough of it for PeekRecord() and for
  // finding the event that wrote it. With its format Split() makes it a record of its own, and says
  // where its stack is.
  bool in_window() const { return in_window_; }
  StackCopy Split(const RecordFormat& format);

  // Bytes not yet taken.
  size_t buffered() const { return end_ - begin_; }
  // Skips bytes that are no records; no more than are buffered.
  void Skip(size_t bytes) { begin_ += bytes; }

 private:
  const std::byte* front() const {
    return (windowed_ ? pool_->window(chunk_).data() : pool_->data(chunk_)) + begin_;
  }
  // Copies the record at the front to an aligned place.
  void Align(uint16_t size);
  // The same for a record of a window.
  State CopyOut(const perf_event_header& header);
  std::byte* Copies() const { return pool_->data(copies_) + copies_end_; }

  ChunkPool* pool_;
  uint32_t chunk_ = ChunkPool::kNone;  // being filled
  bool windowed_ = false;              // it has a window
  size_t begin_ = 0;                   // in it: the front of the stream
  size_t end_ = 0;                     // in it: what has been filled
  const perf_event_header* header_ = nullptr;
  uint32_t header_chunk_ = ChunkPool::kNone;
  size_t size_ = 0;  // of the record at the front
  bool in_window_ = false;
  uint32_t copies_ = ChunkPool::kNone;  // the chunk of copies: a window's own
  size_t copies_end_ = 0;
};

}  // namespace lbrd::pmu
