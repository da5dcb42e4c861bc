#include "unwind/thread_names.h"

#include "unwind/generation.h"

namespace lbrd::unwind {

void ThreadNames::Set(int32_t tid, absl::string_view name) {
  if (names_.size() >= kMaxThreads && !names_.contains(tid)) return;
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
