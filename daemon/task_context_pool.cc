#include "daemon/task_context_pool.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

#ifdef LBRD_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace lbrd::daemon {
namespace {

constexpr size_t kLinkOffset = kTaskContextBytes - sizeof(uint64_t);

#ifdef LBRD_ASAN
void Poison(void* context) { ASAN_POISON_MEMORY_REGION(context, kLinkOffset); }
void Unpoison(void* context, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(context, bytes); }
#else
void Poison(void*) {}
void Unpoison(void*, size_t) {}
#endif

// Addresses without memory, which count for nothing under any policy of overcommitment.
TaskContext* Reserve(size_t bytes) {
  void* memory =
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<TaskContext*>(memory);
}

}  // namespace

// What a block's word says.
struct TaskContextPool::BlockWord {
  enum State : uint64_t {
    kReserved,  // addresses
    kEmpty,     // addresses that may be memory, and are not
    kReady,
    kBusy,  // one thread's, which grows or releases it
  };

  State state = kReserved;
  uint64_t used = 0;        // contexts
  uint64_t never_used = 0;  // from this place on, since it became memory
  uint64_t first_free = 0;  // its place + 1; 0: none
  uint64_t tag = 0;         // modulo 2^32

  static BlockWord Of(uint64_t word) {
    return {.state = static_cast<State>(word & 3),
            .used = word >> 2 & 1023,
            .never_used = word >> 12 & 1023,
            .first_free = word >> 22 & 1023,
            .tag = word >> 32};
  }
  // As the successor of what it was read from.
  uint64_t Next() const {
    return (tag + 1) << 32 | first_free << 22 | never_used << 12 | used << 2 | state;
  }
  bool full() const { return state == kReady && first_free == 0 && never_used == kBlockContexts; }
};

TaskContextPool::TaskContextPool(size_t max_contexts)
    : max_contexts_(std::min(max_contexts, kMaxContexts)),
      block_count_(static_cast<uint32_t>(max_contexts_ / kBlockContexts + 1)),
      contexts_(Reserve(block_count_ * kBlockBytes)),
      blocks_(block_count_),
      room_(block_count_ / 64 + 1) {
  static_assert(kBlockContexts < 1023);
  for (uint32_t block = 0; block < block_count_; ++block) NoteRoom(block);
}

TaskContextPool::~TaskContextPool() {
  RcuBarrier();
  Unpoison(contexts_, block_count_ * kBlockBytes);
  munmap(contexts_, block_count_ * kBlockBytes);
}

size_t TaskContextPool::live() const {
  // Never more than there are: what is freed in between has left `allocated` only.
  const size_t retired = retired_.load();
  const size_t allocated = allocated_.load();
  return allocated > retired ? allocated - retired : 0;
}

size_t TaskContextPool::resident_blocks() const {
  return static_cast<size_t>(
      std::count_if(blocks_.begin(), blocks_.end(), [](const std::atomic<uint64_t>& word) {
        return BlockWord::Of(word.load()).state == BlockWord::kReady;
      }));
}

std::atomic_ref<uint32_t> TaskContextPool::Link(uint32_t number) const {
  return std::atomic_ref<uint32_t>(
      *reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(At(number)) + kLinkOffset));
}

void TaskContextPool::NoteRoom(uint32_t block) {
  const size_t at = block / 64;
  const uint64_t bit = uint64_t{1} << block % 64;
  // Sequentially consistent, as what NoteNoRoom() does: one of the two sees the other.
  if ((room_[at].load() & bit) == 0) room_[at].fetch_or(bit);
  if (first_room_.load(std::memory_order_relaxed) > at) {
    first_room_.store(at, std::memory_order_relaxed);
  }
}

void TaskContextPool::NoteNoRoom(uint32_t block) {
  room_[block / 64].fetch_and(~(uint64_t{1} << block % 64));
  if (!BlockWord::Of(blocks_[block].load()).full()) NoteRoom(block);
}

// The lowest block with room that is memory, so that the highest ones empty first; only where there
// is none, one that becomes memory: that takes 50 us and more, which a fork should not wait.
uint32_t TaskContextPool::Take(uint64_t* birth) {
  bool no_memory = false;
  while (true) {
    for (const bool grow : {false, true}) {
      const uint32_t number = TakeFromAny(grow, birth, &no_memory);
      if (number != 0 || no_memory) return number;
    }
    // There is room, since the caller was counted first: in a block that is just grown or released,
    // the only one, or in one that we passed before it was made there.
    sched_yield();
  }
}

uint32_t TaskContextPool::TakeFromAny(bool grow, uint64_t* birth, bool* no_memory) {
  const size_t begin = first_room_.load(std::memory_order_relaxed);
  for (size_t step = 0; step < room_.size(); ++step) {
    const size_t at = (begin + step) % room_.size();
    for (uint64_t bits = room_[at].load(); bits != 0; bits &= bits - 1) {
      const auto block = static_cast<uint32_t>(at * 64) + std::countr_zero(bits);
      const bool ready = BlockWord::Of(blocks_[block].load()).state == BlockWord::kReady;
      if (!ready && !grow) continue;
      if (const uint32_t number = TakeFrom(block, birth, no_memory); number != 0) {
        if (step != 0) first_room_.store(at, std::memory_order_relaxed);
        return number;
      }
    }
  }
  return 0;
}

uint32_t TaskContextPool::TakeFrom(uint32_t block, uint64_t* birth, bool* no_memory) {
  uint64_t seen = blocks_[block].load();
  while (true) {
    BlockWord word = BlockWord::Of(seen);
    if (word.state == BlockWord::kBusy) return 0;
    if (word.state != BlockWord::kReady) {
      if (!Grow(block, seen)) {
        *no_memory = true;
        return 0;
      }
      seen = blocks_[block].load();
      continue;
    }
    if (word.full()) {
      NoteNoRoom(block);
      return 0;
    }
    uint64_t place = word.never_used;
    if (word.first_free != 0) {
      place = word.first_free - 1;
      // If another thread takes it meanwhile this is anything: the exchange fails then.
      word.first_free = Link(block * kBlockContexts + static_cast<uint32_t>(place))
                            .load(std::memory_order_relaxed) &
                        1023;
    } else {
      ++word.never_used;
    }
    ++word.used;
    if (blocks_[block].compare_exchange_weak(seen, word.Next())) {
      const uint32_t number = block * kBlockContexts + static_cast<uint32_t>(place);
      *birth = (word.Next() >> 32) << TaskPlace::kNumberBits | number;
      return number;
    }
  }
}

void TaskContextPool::PrepareRoom() {
  const size_t begin = first_room_.load(std::memory_order_relaxed);
  uint64_t room = 0;
  for (size_t step = 0; step < room_.size(); ++step) {
    const size_t at = (begin + step) % room_.size();
    for (uint64_t bits = room_[at].load(); bits != 0; bits &= bits - 1) {
      const auto block = static_cast<uint32_t>(at * 64) + std::countr_zero(bits);
      const uint64_t seen = blocks_[block].load();
      const BlockWord word = BlockWord::Of(seen);
      if (word.state == BlockWord::kBusy) continue;
      if (word.state != BlockWord::kReady) {
        // Where there is no memory, whoever needs it is told.
        static_cast<void>(Grow(block, seen));
        return;
      }
      room += kBlockContexts - word.used;
      if (room > kBlockContexts) return;
    }
  }
}

// False: the kernel has no memory.
bool TaskContextPool::Grow(uint32_t block, uint64_t seen) {
  BlockWord word = BlockWord::Of(seen);
  const BlockWord::State before = word.state;
  word.state = BlockWord::kBusy;
  if (!blocks_[block].compare_exchange_strong(seen, word.Next())) return true;  // by another
  void* const memory = contexts_ + size_t{block} * kBlockContexts;
  const bool usable =
      before == BlockWord::kEmpty || mprotect(memory, kBlockBytes, PROT_READ | PROT_WRITE) == 0;
  // All pages at once cost less than a fault each. Where the kernel does not know this (before
  // 5.14) they are faulted in.
  const bool backed = usable && (madvise(memory, kBlockBytes, MADV_POPULATE_WRITE) == 0 ||
                                 (errno != ENOMEM && errno != EFAULT));
  word = BlockWord::Of(word.Next());
  word.state = backed ? BlockWord::kReady : usable ? BlockWord::kEmpty : BlockWord::kReserved;
  word.never_used = block == 0 ? 1 : 0;  // there is no number 0
  blocks_[block].store(word.Next());
  return backed;
}

void TaskContextPool::Give(uint32_t number) {
  const uint32_t block = number / kBlockContexts;
  uint64_t seen = blocks_[block].load();
  BlockWord word;
  do {
    word = BlockWord::Of(seen);
    Link(number).store(static_cast<uint32_t>(word.first_free), std::memory_order_relaxed);
    word.first_free = number % kBlockContexts + 1;
    --word.used;
  } while (!blocks_[block].compare_exchange_weak(seen, word.Next()));
  NoteRoom(block);
  if (word.used != 0) return;
  const uint32_t before = emptied_last_.exchange(block);
  if (before != kNoBlock && before != block) ReleaseIfEmpty(before);
}

void TaskContextPool::ReleaseIfEmpty(uint32_t block) {
  uint64_t seen = blocks_[block].load();
  BlockWord word = BlockWord::Of(seen);
  if (word.state != BlockWord::kReady || word.used != 0) return;
  word.state = BlockWord::kBusy;
  // Taken from meanwhile: whoever empties it again comes here again.
  if (!blocks_[block].compare_exchange_strong(seen, word.Next())) return;
  madvise(contexts_ + size_t{block} * kBlockContexts, kBlockBytes, MADV_DONTNEED);
  word = {.state = BlockWord::kEmpty, .tag = word.tag + 1};
  blocks_[block].store(word.Next());
}

void TaskContextPool::Destroy(TaskContext* context) {
  context->~TaskContext();
  Poison(context);
}

void TaskContextPool::FreeRetired(rcu_head* head) {
  auto* const first = static_cast<TaskContext*>(head);
  TaskContextPool& pool = first->pool_;
  size_t count = 0;
  for (uint32_t number = first->number_; number != 0; ++count) {
    TaskContext* const context = pool.At(number);
    const uint32_t next = context->next_;
    pool.Destroy(context);
    pool.Give(number);
    number = next;
  }
  pool.allocated_.fetch_sub(count);
  pool.retired_.fetch_sub(count);  // in this order, see live()
}

void TaskContextRetirement::Flush() {
  if (first_ == nullptr) return;
  pool_.retired_.fetch_add(size_, std::memory_order_relaxed);
  RcuRetire<&TaskContextPool::FreeRetired>(first_);
  first_ = nullptr;
  size_ = 0;
}

TaskContext* AllocTaskContext(TaskContextPool* pool, bool global) {
  uint64_t birth = 0;
  uint32_t number = 0;
  if (pool->allocated_.fetch_add(1, std::memory_order_relaxed) < pool->max_contexts_ &&
      (!pool->may_allocate_ || pool->may_allocate_())) {
    number = pool->Take(&birth);
  }
  if (number == 0) {
    pool->allocated_.fetch_sub(1, std::memory_order_relaxed);
    pool->refused_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  TaskContext* context = pool->At(number);
  Unpoison(context, kTaskContextBytes);
  return new (context) TaskContext(pool, number, birth, global);
}

void FreeTaskContext(TaskContext* context) {
  TaskContextPool& pool = context->pool_;
  const uint32_t number = context->number();
  pool.Destroy(context);
  pool.Give(number);
  pool.allocated_.fetch_sub(1);
}

}  // namespace lbrd::daemon
