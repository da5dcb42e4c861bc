#include "daemon/profile_table.h"

#include <algorithm>

namespace lbrd::daemon {

// Where many sessions get the same samples their tables do not fit into the caches together, and
// most of the cost is to wait for memory: it is asked for some samples ahead.
template <typename SampleAt, typename WeightAt>
size_t ProfileTable::AddEach(size_t count, SampleAt sample_at, WeightAt weight_at) {
  constexpr size_t kAhead = 8;
  for (size_t i = 0; i < std::min(kAhead, count); ++i) entries_.prefetch(ViewOf(sample_at(i)));
  size_t not_taken = 0;
  for (size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) entries_.prefetch(ViewOf(sample_at(i + kAhead)));
    if (!AddOne(sample_at(i), weight_at(i))) ++not_taken;
  }
  return not_taken;
}

size_t ProfileTable::Add(std::span<const Sample> samples) {
  const auto sample_at = [samples](size_t i) -> const Sample& { return samples[i]; };
  return AddEach(samples.size(), sample_at, [samples](size_t i) { return samples[i].weight; });
}

size_t ProfileTable::AddPicked(std::span<const Sample> samples,
                               std::span<const PickedSample> picked) {
  const auto sample_at = [=](size_t i) -> const Sample& { return samples[picked[i].index]; };
  return AddEach(picked.size(), sample_at, [picked](size_t i) { return picked[i].weight; });
}

bool ProfileTable::AddOne(const Sample& sample, uint64_t weight) {
  auto found = entries_.find(ViewOf(sample));
  if (found == entries_.end()) {
    const size_t bytes = EntryBytes(*sample.stack);
    if (entries_.size() >= max_entries_ || bytes_ + bytes > max_bytes_) return false;
    if (bytes_ + bytes > kLeastBytes && SampleMemory::OfProcess().left(share_) < kEntryBytes) {
      return false;
    }
    bytes_ += bytes;
    memory_.Resize(memory_.bytes() + kEntryBytes);
    found = entries_.emplace(Key(sample.stack, sample.thread, sample.event), Sum{}).first;
  }
  found->second.samples += 1;
  found->second.weight += weight;
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
