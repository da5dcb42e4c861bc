// Where task contexts come from and go back to.
//
// All contexts lie in one range of addresses, so that one is found by its number. The range is
// reserved at once and becomes memory by and by; it is managed in blocks of kBlockContexts, whose
// memory goes back to the kernel when all of a block are free. (The block that was emptied last is
// kept, so that a task that comes and goes does not cost a block each time.)
//
// A fork never waits for a thread that lost the CPU in the middle of something. A block
// is one word, its state, its stack of free contexts and how many are in use, with a tag that every
// change counts up, so that a stack that changed and changed back is told from one that did not (R.
// Treiber, "Systems programming: coping with parallelism", 1986). A block is grown and released by
// the thread that made it busy; others take another block meanwhile.
//
// Retired contexts are freed after a grace period, on liburcu's thread; a walk over all tasks
// retires them in batches, so that none of them is touched more often than it must be.
//
// Bounds: as many contexts as it was told, at most kMaxContexts, of kTaskContextBytes; a history
// for each, kHistoryBytes, and what deep histories may take together. What is in use is counted by
// bytes(); what is resident beyond that is the free part of blocks, 64 KiB each.
// Thread rules: thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "daemon/branch_history.h"
#include "daemon/task_context.h"
#include "daemon/task_place.h"

namespace lbrd::daemon {

class TaskContextPool {
 public:
  static constexpr size_t kMaxContexts = TaskPlace::kMaxNumber;
  static constexpr uint32_t kBlockContexts = 512;  // 64 KiB

  // std::bad_alloc: there is no room for the range (128 MiB of addresses for 1 Mi contexts).
  explicit TaskContextPool(size_t max_contexts);
  TaskContextPool(const TaskContextPool&) = delete;
  TaskContextPool& operator=(const TaskContextPool&) = delete;
  // Waits for those that are retired.
  ~TaskContextPool();

  // 1 to what the pool holds; of one that was allocated.
  TaskContext* At(uint32_t number) const { return contexts_ + number; }

  size_t max_contexts() const { return max_contexts_; }
  // The bound of bytes().
  size_t max_bytes() const {
    return max_contexts_ * (kTaskContextBytes + kHistoryBytes) + BranchHistory::kMaxDeepBytes;
  }
  // What contexts and their histories take, those that wait for their grace period among them.
  size_t bytes() const {
    return allocated_.load() * kTaskContextBytes + histories_.load() * kHistoryBytes +
           BranchHistory::deep_bytes();
  }
  // Those that are not retired.
  size_t live() const;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  // Blocks that are memory. Of use when nobody changes it.
  size_t resident_blocks() const;

  // Sees to it that more than kBlockContexts can be had without waiting for memory, unless the pool
  // is that full. For who takes many: others then need not wait.
  void PrepareRoom();
  static constexpr uint32_t kPrepareEvery = kBlockContexts / 8;

  // For tests: asked before each allocation, without locks; refused if it says false. Set before
  // threads use the pool.
  void set_may_allocate(std::function<bool()> may_allocate) {
    may_allocate_ = std::move(may_allocate);
  }

 private:
  friend class TaskContext;
  friend class TaskContextRetirement;
  friend TaskContext* AllocTaskContext(TaskContextPool* pool, bool global);
  friend void FreeTaskContext(TaskContext* context);

  static constexpr size_t kBlockBytes = kBlockContexts * kTaskContextBytes;
  static constexpr uint32_t kNoBlock = UINT32_MAX;
  struct BlockWord;

  // 0: there is no memory. Sets *birth. For a context that allocated_ counts already.
  uint32_t Take(uint64_t* birth);
  // 0 also: none was found.
  uint32_t TakeFromAny(bool grow, uint64_t* birth, bool* no_memory);
  uint32_t TakeFrom(uint32_t block, uint64_t* birth, bool* no_memory);
  void Give(uint32_t number);
  // Makes it memory, unless another thread does; `seen`: the word that says it is not.
  bool Grow(uint32_t block, uint64_t seen);
  void ReleaseIfEmpty(uint32_t block);
  void NoteRoom(uint32_t block);
  // Takes the note back, unless there is room after all.
  void NoteNoRoom(uint32_t block);

  // Destroys it and poisons its memory but for the link.
  void Destroy(TaskContext* context);
  // In the last eight bytes of a free context: the next free one's place in the block, plus one.
  std::atomic_ref<uint32_t> Link(uint32_t number) const;
  static void FreeRetired(rcu_head* head);
  void CountHistories(int change) { histories_.fetch_add(static_cast<size_t>(change)); }

  const size_t max_contexts_;
  const uint32_t block_count_;
  TaskContext* const contexts_;  // number 0 is none, and never used
  std::function<bool()> may_allocate_;
  std::vector<std::atomic<uint64_t>> blocks_;  // BlockWords
  // A bit for each block: it may have room. Set after room was made, so that it is found.
  std::vector<std::atomic<uint64_t>> room_;
  std::atomic<size_t> first_room_ = 0;             // where to begin to look; a hint
  std::atomic<uint32_t> emptied_last_ = kNoBlock;  // and kept

  alignas(64) std::atomic<size_t> allocated_ = 0;
  std::atomic<size_t> histories_ = 0;
  std::atomic<uint64_t> refused_ = 0;
  alignas(64) std::atomic<size_t> retired_ = 0;  // of the allocated
};

// Retires the contexts that it is given, in batches; ends with it. Each is dead and out of its
// place, and added by the thread that took it out.
class TaskContextRetirement {
 public:
  static constexpr size_t kBatch = 128;

  explicit TaskContextRetirement(TaskContextPool* pool) : pool_(*pool) {}
  TaskContextRetirement(const TaskContextRetirement&) = delete;
  TaskContextRetirement& operator=(const TaskContextRetirement&) = delete;
  ~TaskContextRetirement() { Flush(); }

  void Add(TaskContext* context) {
    context->next_ = first_ == nullptr ? 0 : first_->number();
    first_ = context;
    if (++size_ == kBatch) Flush();
  }

 private:
  void Flush();

  TaskContextPool& pool_;
  TaskContext* first_ = nullptr;
  size_t size_ = 0;
};

// A context with one reference, or nullptr: the pool is at its bound, or there is no memory. Called
// without locks.
TaskContext* AllocTaskContext(TaskContextPool* pool, bool global);
// Frees one that was never published.
void FreeTaskContext(TaskContext* context);

}  // namespace lbrd::daemon
