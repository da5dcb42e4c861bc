#include "daemon/session_figures.h"

#include <algorithm>

namespace lbrd::daemon {

SessionFigures& SessionFigures::operator+=(const SessionFigures& other) {
  time_ns = std::max(time_ns, other.time_ns);
  seen += other.seen;
  lost += other.lost;
  queue_full += other.queue_full;
  undecodable += other.undecodable;
  profile_full += other.profile_full;
  duplicates += other.duplicates;
  other_users += other.other_users;
  engine_died += other.engine_died;
  flow_samples += other.flow_samples;
  thinned += other.thinned;
  other_cpu += other.other_cpu;
  other_thread += other.other_thread;
  other_process += other.other_process;
  other_comm += other.other_comm;
  side_band_lost += other.side_band_lost;
  late_records += other.late_records;
  throttled += other.throttled;
  event_count += other.event_count;
  time_enabled_ns += other.time_enabled_ns;
  time_running_ns += other.time_running_ns;
  gap_count += other.gap_count;
  gap_ns += other.gap_ns;
  engine_deaths += other.engine_deaths;
  return *this;
}

void SessionFigures::EndWithEngine() {
  const uint64_t dropped = queue_full + undecodable + profile_full + duplicates + other_users;
  seen = std::max(seen, dropped);
  engine_died = seen - dropped;
  const uint64_t left_out = thinned + other_cpu + other_thread + other_process + other_comm;
  if (flow_samples != 0) flow_samples = seen + left_out;
}

}  // namespace lbrd::daemon
