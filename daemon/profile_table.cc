#include "daemon/profile_table.h"

#include <algorithm>

namespace lbrd::daemon {

bool ProfileTable::Add(const Sample& sample) {
  Key key(sample.stack, sample.thread, sample.event);
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    if (entries_.size() >= max_entries_) return false;
    found = entries_.emplace(std::move(key), Sum{}).first;
  }
  found->second.samples += 1;
  found->second.weight += sample.weight;
  Count(sample);
  return true;
}

void ProfileTable::Count(const Sample& sample) {
  ++samples_;
  first_time_ns_ = std::min(first_time_ns_, sample.time_ns);
  last_time_ns_ = std::max(last_time_ns_, sample.time_ns);
  const unwind::Verdict& verdict = sample.stack->verdict;
  ++by_verdict_[static_cast<size_t>(verdict.state)][static_cast<size_t>(verdict.reason)];
  if (sample.stack->has_user) {
    ++user_samples_;
    if (unwind::IsWhole(verdict)) ++user_samples_complete_;
    // The oldest frame is a user frame unless nothing of the user part is known.
    if (!sample.stack->frames.empty() &&
        sample.stack->frames.back()->source != unwind::FrameSource::kKernel) {
      ++by_source_[static_cast<size_t>(sample.stack->frames.back()->source)];
    }
  }
}

}  // namespace lbrd::daemon
