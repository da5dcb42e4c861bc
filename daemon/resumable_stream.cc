#include "daemon/resumable_stream.h"

#include <algorithm>

namespace lbrd::daemon {

void ResumableStream::KeepIn(std::unique_ptr<SessionJournal::StreamEntry> entry, uint64_t id,
                             uint64_t now_ns) {
  entry_ = std::move(entry);
  point_.session_id = id;
  point_.begin_ns = now_ns;
  std::copy_n(name_.begin(), std::min(name_.size(), sizeof(point_.name)), point_.name);
  KeepPoint();
}

void ResumableStream::GoOn(const StreamPoint& point, std::string why, uint64_t now_ns) {
  point_ = point;
  last_sequence_ = point.sequence;
  samples_ = point.samples;
  missing_ = point.missing;
  last_ns_ = point.last_ns;
  const uint64_t from_ns = point.last_ns != 0 ? point.last_ns : point.begin_ns;
  gap_ = StreamBreak{.from_ns = std::min(from_ns, now_ns), .to_ns = now_ns, .why = std::move(why)};
}

void ResumableStream::KeepPoint() {
  if (entry_ == nullptr) return;
  StreamPoint point = point_;
  point.sequence = last_sequence_;
  point.samples = samples_;
  point.last_ns = last_ns_;
  point.dropped = dropped();
  point.missing = missing_;
  entry_->Write(point);
}

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
  next.gap.swap(gap_);
  samples_ += next.samples.size();
  for (const Sample& sample : next.samples) {
    next.room += RoomOf(sample);
    last_ns_ = std::max(last_ns_, sample.time_ns);
  }
  // Before it is sent: what the client has is never more than what the journal says.
  KeepPoint();
  kept_room_ += next.room;
  kept_.push_back(std::move(next));
  kept_memory_.Resize(kept_room_ * sizeof(Sample));
  const size_t most =
      SampleMemory::OfProcess().left(MemoryShare::kThreeQuarters) == 0 ? 0 : kMaxKeptSamples;
  // The newest is kept whatever its size: it is on its way.
  while (kept_room_ > most && kept_.size() > 1) {
    kept_room_ -= kept_.front().room;
    kept_.pop_front();
  }
  kept_memory_.Resize(kept_room_ * sizeof(Sample));
  *message = &kept_.back();
  return more;
}

StreamMessage ResumableStream::Last() {
  return {.sequence = last_sequence_ + 1, .samples_before = samples_, .samples = {}, .gap = gap_};
}

StreamMessage ResumableStream::Greeting() const {
  return {.sequence = last_sequence_, .samples_before = samples_, .samples = {}};
}

void ResumableStream::Rewind(uint64_t after, uint64_t samples, uint64_t last_ns) {
  if (gap_.has_value()) {
    // Nothing was sent since, and what was sent before is gone.
    gap_->not_received = samples_ - std::min(samples_, samples);
    if (samples == 0) {
      gap_->from_ns = std::min(point_.begin_ns, gap_->to_ns);
    } else if (last_ns != 0) {
      gap_->from_ns = std::min(gap_->from_ns, last_ns);
    }
    return;
  }
  const auto first = std::find_if(kept_.begin(), kept_.end(), [after](const StreamMessage& one) {
    return one.sequence > after;
  });
  again_ = static_cast<size_t>(kept_.end() - first);
  const uint64_t available = first == kept_.end() ? samples_ : first->samples_before;
  missing_ += available - std::min(available, samples);
}

}  // namespace lbrd::daemon
