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
// Bounds: a TidArray of 8 bytes a tid.
// Thread rules: thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "daemon/tid_array.h"

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
  static constexpr bool Has(int32_t tid) { return TidArray<uint64_t>::Has(tid); }

  // All of these: Has(tid).
  TaskPlace Load(int32_t tid, std::memory_order order = std::memory_order_acquire) const {
    return {words_.At(tid).load(order)};
  }
  // False: it held something else, which is in `seen` then. Sequentially consistent.
  bool Replace(int32_t tid, TaskPlace* seen, TaskPlace with) {
    return words_.At(tid).compare_exchange_strong(seen->word, with.word, std::memory_order_seq_cst);
  }
  TaskPlace Exchange(int32_t tid, TaskPlace with) {
    return {words_.At(tid).exchange(with.word, std::memory_order_seq_cst)};
  }
  void Prepare(int32_t tid, size_t count) { words_.Prepare(tid, count); }

 private:
  TidArray<uint64_t> words_;  // 0 is the place that nobody had yet
};

}  // namespace lbrd::daemon
