#include "daemon/deferred_samples.h"

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

std::vector<PendingSample> DeferredSamples::Answer(int32_t tid, uint64_t cookie) {
  const auto found = by_key_.find(Key(tid, cookie));
  if (found == by_key_.end()) return {};
  std::vector<PendingSample> samples = std::move(found->second->samples);
  by_age_.erase(found->second);
  by_key_.erase(found);
  size_ -= samples.size();
  return samples;
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

}  // namespace lbrd::daemon
