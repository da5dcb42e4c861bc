#include "daemon/resumable_stream.h"

#include <algorithm>

namespace lbrd::daemon {

bool ResumableStream::Next(absl::Duration max_delay, const StreamMessage** message) {
  if (again_ > 0) {
    *message = &kept_[kept_.size() - again_--];
    return true;
  }
  std::vector<Sample> samples;
  const bool more = source_->Pop(max_delay, &samples);
  *message = &nothing_;
  if (samples.empty()) return more;
  StreamMessage next{
      .sequence = ++last_sequence_, .samples_before = samples_, .samples = std::move(samples)};
  samples_ += next.samples.size();
  for (const Sample& sample : next.samples) next.room += RoomOf(sample);
  kept_room_ += next.room;
  kept_.push_back(std::move(next));
  // The newest is kept whatever its size: it is on its way.
  while (kept_room_ > kMaxKeptSamples && kept_.size() > 1) {
    kept_room_ -= kept_.front().room;
    kept_.pop_front();
  }
  *message = &kept_.back();
  return more;
}

StreamMessage ResumableStream::Last() {
  return {.sequence = last_sequence_ + 1, .samples_before = samples_, .samples = {}};
}

void ResumableStream::Rewind(uint64_t after, uint64_t samples) {
  const auto first = std::find_if(kept_.begin(), kept_.end(), [after](const StreamMessage& one) {
    return one.sequence > after;
  });
  again_ = static_cast<size_t>(kept_.end() - first);
  const uint64_t available = first == kept_.end() ? samples_ : first->samples_before;
  missing_ += available - std::min(available, samples);
}

}  // namespace lbrd::daemon
