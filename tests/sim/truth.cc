#include "tests/sim/truth.h"

#include <utility>

namespace lbrd::sim {

std::vector<uint64_t> Truth::ReturnAddresses() const {
  std::vector<uint64_t> ips;
  ips.reserve(call_sites.size() + 1);
  ips.push_back(user_ip);
  for (const uint64_t site : call_sites) ips.push_back(site + kCallBytes);
  return ips;
}

void TruthWindow::Add(std::shared_ptr<const Truth> truth) {
  bytes_ += truth->bytes() + kOverheadBytes;
  by_age_.push_back(truth);
  by_key_[{truth->event_id, truth->time, truth->cpu, truth->tid}] = std::move(truth);
  while (bytes_ > max_bytes_ && !by_age_.empty()) {
    const std::shared_ptr<const Truth> oldest = std::move(by_age_.front());
    by_age_.pop_front();
    bytes_ -= oldest->bytes() + kOverheadBytes;
    ++forgotten_;
    const auto found = by_key_.find({oldest->event_id, oldest->time, oldest->cpu, oldest->tid});
    if (found != by_key_.end() && found->second == oldest) by_key_.erase(found);
  }
}

std::shared_ptr<const Truth> TruthWindow::Find(const pmu::SampleId& who) const {
  const auto found = by_key_.find({who.id, who.time, who.cpu, who.tid});
  return found == by_key_.end() ? nullptr : found->second;
}

}  // namespace lbrd::sim
