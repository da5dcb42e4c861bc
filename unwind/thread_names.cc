#include "unwind/thread_names.h"

#include <atomic>

namespace lbrd::unwind {
namespace {

uint64_t NextGeneration() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

void ThreadNames::Set(int32_t tid, absl::string_view name) {
  if (names_.size() >= kMaxThreads) return;
  names_[tid] = std::string(name);
  generation_ = NextGeneration();
}

void ThreadNames::Forget(int32_t tid) {
  if (names_.erase(tid) != 0) generation_ = NextGeneration();
}

void ThreadNames::Clear() {
  names_.clear();
  generation_ = NextGeneration();
}

const std::string* ThreadNames::Find(int32_t tid) const {
  const auto found = names_.find(tid);
  return found == names_.end() ? nullptr : &found->second;
}

}  // namespace lbrd::unwind
