#include "daemon/sample_stream.h"

#include <algorithm>
#include <iterator>

namespace lbrd::daemon {

size_t SampleStream::MaxRoom() const {
  if (patient_) return SIZE_MAX;
  const size_t left = SampleMemory::OfProcess().left(share_) / sizeof(Sample);
  return std::min(kMaxSamples, std::max(2 * kBatchSamples, room_ + left));
}

void SampleStream::SetRoom(size_t room) {
  room_ = room;
  memory_.Resize(room * sizeof(Sample));
}

void SampleStream::Push(std::span<const Sample> samples) {
  absl::MutexLock lock(&mutex_);
  if (patient_) {
    const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return room_ < kMaxSamples || cancelled_;
    };
    mutex_.Await(absl::Condition(&room));
  }
  if (cancelled_) return;
  // A patient stream may go over its bound by the one batch that is being pushed.
  const size_t most = MaxRoom();
  size_t taken = 0;
  size_t room = room_;
  for (; taken < samples.size(); ++taken) {
    const size_t next = RoomOf(samples[taken]);
    if (room + next > most) break;
    room += next;
  }
  SetRoom(room);
  samples_.insert(samples_.end(), samples.begin(), samples.begin() + static_cast<ptrdiff_t>(taken));
  dropped_ += samples.size() - taken;
}

bool SampleStream::Pop(absl::Duration max_delay, std::vector<Sample>* samples) {
  samples->clear();
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return room_ >= kBatchSamples || ended_ || cancelled_;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), max_delay);
  if (cancelled_) return false;
  if (room_ <= kBatchSamples) {
    samples->swap(samples_);
    SetRoom(0);
  } else {
    auto end = samples_.begin();
    size_t room = 0;
    for (; end != samples_.end(); ++end) {
      const size_t next = RoomOf(*end);
      if (room != 0 && room + next > kBatchSamples) break;
      room += next;
    }
    SetRoom(room_ - room);
    samples->assign(std::make_move_iterator(samples_.begin()), std::make_move_iterator(end));
    samples_.erase(samples_.begin(), end);
  }
  return !samples->empty() || !ended_;
}

void SampleStream::End() {
  absl::MutexLock lock(&mutex_);
  ended_ = true;
}

void SampleStream::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  std::vector<Sample>().swap(samples_);
  SetRoom(0);
}

uint64_t SampleStream::dropped() const {
  absl::MutexLock lock(&mutex_);
  return dropped_;
}

}  // namespace lbrd::daemon
