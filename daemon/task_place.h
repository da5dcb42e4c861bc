// Where the context of a tid's present task is found: one word for each tid there can be, so that a
// sample's look-up touches eight bytes.
//
// A place holds a key and a context's number, and both change together. The key is the task's: it
// grows from each task that has the tid to the next, so that who comes late with an earlier task's
// finds it changed and does nothing. And it is never less than the time the task started, in steps
// of kStepNs: who looks for a task at a later step needs nothing else to know that it is this one.
//
// Places are the only way to contexts, and stay: whoever takes a context out of one retires it
// (daemon/task_table, which has the protocol).
//
// Bounds: 8 bytes for each of kTids, 32 MiB; only pages of tids that were in use are resident.
// Thread rules: thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lbrd::daemon {

// What a place holds at one time.
struct TaskPlace {
  static constexpr int kNumberBits = 22;
  static constexpr uint64_t kMaxNumber = (uint64_t{1} << kNumberBits) - 1;
  static constexpr uint64_t kMaxKey = UINT64_MAX >> kNumberBits;
  static constexpr uint64_t kStepNs = uint64_t{1} << kNumberBits;  // 4.2 ms: any time fits the key

  uint64_t word = 0;

  static TaskPlace Of(uint64_t key, uint32_t number) { return {key << kNumberBits | number}; }
  static uint64_t StepOf(uint64_t time_ns) { return time_ns / kStepNs; }
  // 0: nobody had the tid yet.
  uint64_t key() const { return word >> kNumberBits; }
  // 0: the task has no context.
  uint32_t number() const { return static_cast<uint32_t>(word & kMaxNumber); }
};

class TaskPlaces {
 public:
  // The kernel's own bound (PID_MAX_LIMIT of 64-bit kernels): tids are below it.
  static constexpr size_t kTids = size_t{4} << 20;
  static constexpr bool Has(int32_t tid) { return static_cast<uint32_t>(tid) < kTids; }

  TaskPlaces();  // std::bad_alloc: no address space
  TaskPlaces(const TaskPlaces&) = delete;
  TaskPlaces& operator=(const TaskPlaces&) = delete;
  ~TaskPlaces();

  // All of these: Has(tid).
  TaskPlace Load(int32_t tid, std::memory_order order = std::memory_order_acquire) const {
    return {Word(tid).load(order)};
  }
  // False: it held something else, which is in `seen` then. Sequentially consistent.
  bool Replace(int32_t tid, TaskPlace* seen, TaskPlace with) {
    return Word(tid).compare_exchange_strong(seen->word, with.word, std::memory_order_seq_cst);
  }
  TaskPlace Exchange(int32_t tid, TaskPlace with) {
    return {Word(tid).exchange(with.word, std::memory_order_seq_cst)};
  }

 private:
  std::atomic_ref<uint64_t> Word(int32_t tid) const {
    return std::atomic_ref<uint64_t>(words_[static_cast<uint32_t>(tid)]);
  }

  uint64_t* const words_;
};

}  // namespace lbrd::daemon
