#include "daemon/sample_share.h"

namespace lbrd::daemon {

void SampleSink::DeliverPicked(std::span<const Sample> samples,
                               std::span<const PickedSample> picked) {
  std::vector<Sample> copies;
  copies.reserve(picked.size());
  for (const PickedSample& one : picked) {
    copies.push_back(samples[one.index]);
    copies.back().weight = one.weight;
  }
  Deliver(copies);
}

}  // namespace lbrd::daemon
