#include "daemon/deferred_samples.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace lbrd::daemon {

void DeferredSamples::Add(PendingSample sample) {
  const Key key(sample.tid, sample.stack.cookie);
  const auto [found, is_new] = by_key_.try_emplace(key);
  if (is_new) {
    by_age_.push_back({key, {}});
    found->second = std::prev(by_age_.end());
  }
  found->second->samples.push_back(std::move(sample));
  ++size_;
}

std::vector<PendingSample> DeferredSamples::Answer(int32_t tid, uint64_t cookie,
                                                   std::span<const uint64_t> user) {
  if (last_answers_.size() >= kMaxAnswers && !last_answers_.contains(tid)) last_answers_.clear();
  LastOfTask& last = last_answers_[tid];
  last.cookie = cookie;
  last.user.assign(user.begin(), user.end());
  const auto found = by_key_.find(Key(tid, cookie));
  if (found == by_key_.end()) return {};
  std::vector<PendingSample> samples = std::move(found->second->samples);
  by_age_.erase(found->second);
  by_key_.erase(found);
  size_ -= samples.size();
  return samples;
}

const std::vector<uint64_t>* DeferredSamples::LastAnswer(int32_t tid, uint64_t cookie) const {
  const auto found = last_answers_.find(tid);
  const bool same = found != last_answers_.end() && found->second.cookie == cookie;
  return same ? &found->second.user : nullptr;
}

std::vector<PendingSample> DeferredSamples::Expire(uint64_t now_ns) {
  std::vector<PendingSample> expired;
  while (!by_age_.empty()) {
    Waiting& oldest = by_age_.front();
    const uint64_t since = oldest.samples.front().time_ns;
    if (size_ <= kMaxPending && (now_ns < since || now_ns - since < kTimeoutNs)) break;
    size_ -= oldest.samples.size();
    expired.insert(expired.end(), std::make_move_iterator(oldest.samples.begin()),
                   std::make_move_iterator(oldest.samples.end()));
    by_key_.erase(oldest.key);
    by_age_.pop_front();
  }
  return expired;
}

std::vector<PendingSample> DeferredSamples::TakeShareOf(const Subscriber* subscriber) {
  std::vector<PendingSample> taken;
  for (Waiting& waiting : by_age_) {
    for (PendingSample& sample : waiting.samples) {
      const auto share = std::find_if(
          sample.shares.begin(), sample.shares.end(),
          [subscriber](const SampleShare& one) { return one.subscriber == subscriber; });
      if (share == sample.shares.end()) continue;
      const SampleShare only = *share;
      sample.shares.erase(share);
      taken.push_back(sample);
      taken.back().shares = {only};
    }
  }
  return taken;
}

}  // namespace lbrd::daemon
