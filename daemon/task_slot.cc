#include "daemon/task_slot.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace lbrd::daemon {
namespace {

constexpr uint64_t kIndexMask = UINT32_MAX;
constexpr uint64_t kChange = uint64_t{1} << 32;

}  // namespace

TaskSlotStore::~TaskSlotStore() {
  RcuBarrier();
  for (std::atomic<Chunk*>& chunk : chunks_) std::free(chunk.load(std::memory_order_relaxed));
}

TaskSlot* TaskSlotStore::Take() {
  TaskSlot* slot = Pop();
  while (slot == nullptr && Grow()) slot = Pop();
  if (slot == nullptr) return nullptr;
  const uint32_t index = IndexOf(slot);
  uint32_t used = end_of_used_.load();
  while (used <= index && !end_of_used_.compare_exchange_weak(used, index + 1)) {
  }
  return slot;
}

TaskSlot* TaskSlotStore::Pop() {
  uint64_t top = free_.load(std::memory_order_acquire);
  while ((top & kIndexMask) != 0) {
    TaskSlot* slot = At(static_cast<uint32_t>(top & kIndexMask));
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
  } while (!free_.compare_exchange_weak(top, (top & ~kIndexMask) + kChange + IndexOf(first),
                                        std::memory_order_acq_rel, std::memory_order_relaxed));
}

bool TaskSlotStore::Grow() {
  void* memory = std::aligned_alloc(kChunkBytes, kChunkBytes);
  if (memory == nullptr) return false;
  madvise(memory, kChunkBytes, MADV_HUGEPAGE);  // look-ups are spared most misses of the TLB
  auto* chunk = new (memory) Chunk;
  size_t number = chunks_used_.load();
  do {
    if (number >= kMaxChunks) {
      std::free(chunk);
      return false;
    }
  } while (!chunks_used_.compare_exchange_weak(number, number + 1));
  chunk->store = this;
  chunk->number = static_cast<uint32_t>(number);
  for (uint32_t i = 0; i + 1 < chunk->slots.size(); ++i) {
    chunk->slots[i].next_free = IndexOf(&chunk->slots[i + 1]);
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
