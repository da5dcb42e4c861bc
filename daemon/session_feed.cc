#include "daemon/session_feed.h"

#include <cstddef>

namespace lbrd::daemon {

FeedStats& FeedStats::operator+=(const FeedStats& other) {
  source += other.source;
  dropped_queue_full += other.dropped_queue_full;
  undecodable_samples += other.undecodable_samples;
  side_band_dropped += other.side_band_dropped;
  flow_samples += other.flow_samples;
  thinned += other.thinned;
  other_cpu += other.other_cpu;
  other_thread += other.other_thread;
  other_process += other.other_process;
  other_comm += other.other_comm;
  for (size_t i = 0; i < lbr_windows.size(); ++i) lbr_windows[i] += other.lbr_windows[i];
  return *this;
}

}  // namespace lbrd::daemon
