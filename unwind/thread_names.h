// What the threads of one process are called, by tid.
//
// Bounds: kMaxThreads names; those of more threads are not kept. Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace lbrd::unwind {

class ThreadNames {
 public:
  static constexpr size_t kMaxThreads = 1u << 16;

  void Set(int32_t tid, absl::string_view name);
  void Forget(int32_t tid);
  void Clear();
  bool empty() const { return names_.empty(); }
  // nullptr: not known. Valid until the next change.
  const std::string* Find(int32_t tid) const;

  // Of all names as they are now: another after each change, and in every other process. 0: there
  // never was one.
  uint64_t generation() const { return generation_; }

 private:
  absl::flat_hash_map<int32_t, std::string> names_;
  uint64_t generation_ = 0;
};

}  // namespace lbrd::unwind
