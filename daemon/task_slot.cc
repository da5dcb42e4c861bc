#include "daemon/task_slot.h"

#include <new>

namespace lbrd::daemon {
namespace {

constexpr uint64_t kIndexMask = UINT32_MAX;
constexpr uint64_t kChange = uint64_t{1} << 32;

}  // namespace

TaskSlotStore::~TaskSlotStore() {
  RcuBarrier();
  for (std::atomic<Chunk*>& chunk : chunks_) delete chunk.load(std::memory_order_relaxed);
}

TaskSlotStore::Chunk* TaskSlotStore::ChunkOf(TaskSlot* slot) {
  return reinterpret_cast<Chunk*>(reinterpret_cast<uintptr_t>(slot) & ~(kChunkBytes - 1));
}

uint32_t TaskSlotStore::IndexOf(TaskSlot* slot) {
  const Chunk* chunk = ChunkOf(slot);
  return chunk->first + static_cast<uint32_t>(slot - chunk->slots.data());
}

TaskSlot* TaskSlotStore::At(uint32_t index) const {
  Chunk* chunk = chunks_[index / kSlotsPerChunk].load(std::memory_order_acquire);
  return &chunk->slots[index % kSlotsPerChunk];
}

TaskSlot* TaskSlotStore::Take() {
  TaskSlot* slot = Pop();
  while (slot == nullptr && Grow()) slot = Pop();
  return slot;
}

TaskSlot* TaskSlotStore::Pop() {
  uint64_t top = free_.load(std::memory_order_acquire);
  while ((top & kIndexMask) != 0) {
    TaskSlot* slot = At(static_cast<uint32_t>(top & kIndexMask) - 1);
    // If another thread takes it meanwhile this is not its successor: the exchange fails then.
    const uint64_t rest = slot->next_free.load(std::memory_order_relaxed);
    if (free_.compare_exchange_weak(top, (top & ~kIndexMask) + kChange + rest,
                                    std::memory_order_acquire)) {
      return slot;
    }
  }
  return nullptr;
}

void TaskSlotStore::Push(TaskSlot* first, TaskSlot* last) {
  uint64_t top = free_.load(std::memory_order_relaxed);
  do {
    last->next_free.store(static_cast<uint32_t>(top & kIndexMask), std::memory_order_relaxed);
  } while (!free_.compare_exchange_weak(top, (top & ~kIndexMask) + kChange + IndexOf(first) + 1,
                                        std::memory_order_acq_rel, std::memory_order_relaxed));
}

bool TaskSlotStore::Grow() {
  auto* chunk = new (std::nothrow) Chunk;
  if (chunk == nullptr) return false;
  size_t number = chunks_used_.load();
  do {
    if (number >= kMaxChunks) {
      delete chunk;
      return false;
    }
  } while (!chunks_used_.compare_exchange_weak(number, number + 1));
  chunk->store = this;
  chunk->first = static_cast<uint32_t>(number * kSlotsPerChunk);
  for (size_t i = 0; i + 1 < kSlotsPerChunk; ++i) {
    chunk->slots[i].next_free = chunk->first + static_cast<uint32_t>(i) + 2;
  }
  chunks_[number].store(chunk);
  Push(&chunk->slots.front(), &chunk->slots.back());
  return true;
}

void TaskSlotStore::Return(TaskSlot* slot) { Push(slot, slot); }

void TaskSlotStore::Retire(TaskSlot* slot) {
  RcuRetire<&TaskSlotStore::ReturnRetired>(&slot->retired);
}

void TaskSlotStore::ReturnRetired(rcu_head* head) {
  TaskSlot* slot = caa_container_of(head, TaskSlot, retired);
  const uint64_t generation = slot->life.load(std::memory_order_relaxed) & ~TaskSlot::kStateMask;
  slot->life.store(generation | TaskSlot::kFree, std::memory_order_relaxed);
  ChunkOf(slot)->store->Return(slot);
}

}  // namespace lbrd::daemon
