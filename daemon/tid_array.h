// A number for each tid there can be, zero at first. What is looked up by tid lies here, one load
// away.
//
// Bounds: kTids entries of addresses; only pages of tids that were in use, or are about to be, are
// resident. Thread rules: thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lbrd::daemon {

namespace tid_array_internal {
void* Map(size_t bytes);  // std::bad_alloc: no address space
void Unmap(void* memory, size_t bytes);
void Populate(void* memory, size_t bytes);
}  // namespace tid_array_internal

template <typename Number>
class TidArray {
 public:
  // The kernel's own bound (PID_MAX_LIMIT of 64-bit kernels): tids are below it.
  static constexpr size_t kTids = size_t{4} << 20;
  static constexpr bool Has(int32_t tid) { return static_cast<uint32_t>(tid) < kTids; }

  TidArray() : numbers_(static_cast<Number*>(tid_array_internal::Map(kTids * sizeof(Number)))) {}
  TidArray(const TidArray&) = delete;
  TidArray& operator=(const TidArray&) = delete;
  ~TidArray() { tid_array_internal::Unmap(numbers_, kTids * sizeof(Number)); }

  // Has(tid).
  std::atomic_ref<Number> At(int32_t tid) const {
    return std::atomic_ref<Number>(numbers_[static_cast<uint32_t>(tid)]);
  }

  // Makes the pages of `count` tids from this one on resident, so that who touches them first does
  // not wait for memory. Has(tid).
  void Prepare(int32_t tid, size_t count) {
    const auto first = static_cast<uint32_t>(tid);
    if (count > kTids - first) count = kTids - first;
    tid_array_internal::Populate(numbers_ + first, count * sizeof(Number));
  }

 private:
  Number* const numbers_;
};

}  // namespace lbrd::daemon
