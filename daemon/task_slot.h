// The place of one task in the task table, and the store of such places.
//
// A slot is 64 bytes in a chunk of 64 KiB, and its memory stays a slot's while the store lives: a
// pointer to one can always be looked at. Whether it is still the same task's tells the generation.
// A slot that was given back is used again after a grace period.
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
#include <tuple>

#include "daemon/rcu.h"
#include "daemon/task_context.h"

namespace lbrd::daemon {

struct alignas(64) TaskSlot {
  // What `life` holds in its lowest two bits; the rest is the generation.
  enum State : uint64_t { kFree = 0, kLive = 1, kExiting = 2 };
  static constexpr uint64_t kStateMask = 3;

  std::atomic<TaskSlot*> next = nullptr;  // in its bucket, from the latest to the earliest
  std::atomic<TaskContext*> context = nullptr;
  std::atomic<uint64_t> life = kFree;
  // Set while the slot is free; constant from when it is live until a grace period after that.
  uint64_t start_ns = 0;
  int32_t tid = -1;
  int32_t tgid = -1;
  std::atomic<uint32_t> next_free = 0;  // of a free slot: its successor's index + 1; 0: none
  rcu_head retired;

  static bool Live(uint64_t of_life) { return (of_life & kStateMask) == kLive; }
};
static_assert(sizeof(TaskSlot) == 64);

class TaskSlotStore {
 public:
  static constexpr size_t kChunkBytes = size_t{64} << 10;
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
    // Sequentially consistent, as the store in Grow(): a slot that went live before the caller's
    // last such store is met.
    const size_t chunks = chunks_used_.load();
    for (size_t i = 0; i < chunks; ++i) {
      Chunk* chunk = chunks_[i].load(std::memory_order_acquire);
      if (chunk == nullptr) continue;  // another thread is about to store it: nothing lives there
      for (size_t slot = 0; slot < kSlotsPerChunk; ++slot) {
        // Contexts lie anywhere in memory. A stale one here is no harm: nothing is read.
        const size_t ahead = std::min(slot + kPrefetchAhead, kSlotsPerChunk - 1);
        __builtin_prefetch(chunk->slots[ahead].context.load(std::memory_order_relaxed), 1);
        if (!visit(chunk->slots[slot])) return;
      }
    }
  }

  size_t bytes() const { return chunks_used_.load(std::memory_order_relaxed) * kChunkBytes; }

 private:
  // Aligned to its size, so that a slot's chunk is known by its address.
  struct alignas(kChunkBytes) Chunk {
    TaskSlotStore* store;
    uint32_t first;  // index of its first slot
    std::array<TaskSlot, kChunkBytes / sizeof(TaskSlot) - 1> slots;
  };
  static_assert(sizeof(Chunk) == kChunkBytes);
  static constexpr size_t kSlotsPerChunk = std::tuple_size_v<decltype(Chunk::slots)>;
  static constexpr size_t kPrefetchAhead = 12;  // slots; a miss takes as long as some visits
  static constexpr size_t kMaxChunks = (kMaxSlots + kSlotsPerChunk - 1) / kSlotsPerChunk;

  static Chunk* ChunkOf(TaskSlot* slot);
  static void ReturnRetired(rcu_head* head);
  bool Grow();
  TaskSlot* Pop();
  void Push(TaskSlot* first, TaskSlot* last);
  static uint32_t IndexOf(TaskSlot* slot);
  TaskSlot* At(uint32_t index) const;

  std::array<std::atomic<Chunk*>, kMaxChunks> chunks_ = {};
  std::atomic<size_t> chunks_used_ = 0;
  // The stack of free slots: its top's index + 1 below, and above a count of its changes, which
  // keeps a top that came back from being taken for one that never left.
  alignas(64) std::atomic<uint64_t> free_ = 0;
};

}  // namespace lbrd::daemon
