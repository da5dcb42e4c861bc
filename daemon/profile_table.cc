#include "daemon/profile_table.h"

#include <algorithm>

namespace lbrd::daemon {

// Where many sessions get the same samples their tables do not fit into the caches together, and
// most of the cost is to wait for memory: it is asked for some samples ahead.
size_t ProfileTable::Add(std::span<const Sample> samples) {
  constexpr size_t kAhead = 8;
  for (const Sample& sample : samples.first(std::min(kAhead, samples.size()))) {
    entries_.prefetch(ViewOf(sample));
  }
  size_t not_taken = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i + kAhead < samples.size()) entries_.prefetch(ViewOf(samples[i + kAhead]));
    if (!AddOne(samples[i])) ++not_taken;
  }
  return not_taken;
}

bool ProfileTable::AddOne(const Sample& sample) {
  auto found = entries_.find(ViewOf(sample));
  if (found == entries_.end()) {
    if (entries_.size() >= max_entries_) return false;
    found = entries_.emplace(Key(sample.stack, sample.thread, sample.event), Sum{}).first;
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
