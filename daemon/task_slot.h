// The place of one task in the task table, and the store of such places.
//
// A slot is 64 bytes in a chunk of 2 MiB (one huge page, if the kernel gives them), and its memory
// stays a slot's while the store lives: a pointer to one can always be looked at. Whether it is
// still the same task's tells the generation. A slot that was given back is used again after a
// grace period.
//
// All slots can be walked in the order they lie in memory, without a lock, while others come and
// go: each task that is there during the whole walk is met once.
//
// Bounds: kMaxSlots tasks at once (the kernel's own limit of pid_max); the store keeps the memory
// of as many slots as there ever were tasks at once. Thread rules: thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "daemon/rcu.h"

namespace lbrd::daemon {

struct alignas(64) TaskSlot {
  // What `life` holds in its lowest two bits; the rest is the generation.
  enum State : uint64_t { kFree = 0, kLive = 1, kExiting = 2 };
  static constexpr uint64_t kStateMask = 3;

  std::atomic<uint64_t> life = kFree;
  // Set while the slot is free; constant from when it is live until a grace period after that.
  uint64_t start_ns = 0;
  uint64_t key = 0;  // of its tid's place (daemon/task_place), by which it is this task's
  int32_t tid = -1;
  int32_t tgid = -1;
  std::atomic<uint32_t> next_free = 0;  // of a free slot: its successor's index; 0: none
  rcu_head retired;

  static bool Live(uint64_t of_life) { return (of_life & kStateMask) == kLive; }
};
static_assert(sizeof(TaskSlot) == 64);

class TaskSlotStore {
 public:
  static constexpr size_t kChunkBytes = size_t{2} << 20;
  static constexpr size_t kMaxSlots = size_t{4} << 20;

  TaskSlotStore() = default;
  TaskSlotStore(const TaskSlotStore&) = delete;
  TaskSlotStore& operator=(const TaskSlotStore&) = delete;
  // Waits for the slots that are retired.
  ~TaskSlotStore();

  // A free slot, the caller's until it is given back; nullptr: there is no room or no memory.
  TaskSlot* Take();
  // Gives back a slot that nobody has seen.
  void Return(TaskSlot* slot);
  // Gives back a slot that is out of sight, after a grace period.
  void Retire(TaskSlot* slot);

  // Calls visit(TaskSlot&) for each slot, whatever its state, until it returns false.
  template <typename Visit>
  void ForEach(Visit visit) {
    // Sequentially consistent, as the store in Take(): a slot that went live before the caller's
    // last such store is met.
    const uint32_t end = end_of_used_.load();
    for (uint32_t first = 0; first < end; first += kSlotsPerChunk) {
      const uint32_t end_in_chunk = std::min(end, first + kSlotsPerChunk);
      for (uint32_t index = first + 1; index < end_in_chunk; ++index) {
        if (!visit(*At(index))) return;
      }
    }
  }

  // The slots' numbers, of which 0 is none. Half as long as a pointer.
  TaskSlot* At(uint32_t index) const {
    Chunk* chunk = chunks_[index / kSlotsPerChunk].load(std::memory_order_acquire);
    return reinterpret_cast<TaskSlot*>(chunk) + index % kSlotsPerChunk;
  }
  static uint32_t IndexOf(TaskSlot* slot) {
    const Chunk* chunk = ChunkOf(slot);
    return chunk->number * kSlotsPerChunk +
           static_cast<uint32_t>(slot - reinterpret_cast<const TaskSlot*>(chunk));
  }

  size_t bytes() const { return chunks_used_.load(std::memory_order_relaxed) * kChunkBytes; }

 private:
  static constexpr uint32_t kSlotsPerChunk = kChunkBytes / sizeof(TaskSlot);
  static constexpr size_t kMaxChunks = kMaxSlots / kSlotsPerChunk;
  // Aligned to its size, so that a slot's chunk is known by its address. What stands in the place
  // of slot 0 says whose it is.
  struct alignas(kChunkBytes) Chunk {
    alignas(sizeof(TaskSlot)) TaskSlotStore* store;
    uint32_t number;
    std::array<TaskSlot, kSlotsPerChunk - 1> slots;
  };
  static_assert(sizeof(Chunk) == kChunkBytes);

  static Chunk* ChunkOf(TaskSlot* slot) {
    return reinterpret_cast<Chunk*>(reinterpret_cast<uintptr_t>(slot) & ~(kChunkBytes - 1));
  }
  static void ReturnRetired(rcu_head* head);
  bool Grow();
  TaskSlot* Pop();
  void Push(TaskSlot* first, TaskSlot* last);

  std::array<std::atomic<Chunk*>, kMaxChunks> chunks_ = {};
  std::atomic<size_t> chunks_used_ = 0;
  std::atomic<uint32_t> end_of_used_ = 0;  // every slot that was ever taken has a smaller index
  alignas(64) std::atomic<uint64_t> free_ = 0;
};

}  // namespace lbrd::daemon
