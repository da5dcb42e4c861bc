#include "pmu/record_source.h"

#include <algorithm>
#include <cstddef>

namespace lbrd::pmu {

SourceStats& SourceStats::operator+=(const SourceStats& other) {
  samples += other.samples;
  other_records += other.other_records;
  lost_samples += other.lost_samples;
  lost_other += other.lost_other;
  late_records += other.late_records;
  undecodable += other.undecodable;
  throttled += other.throttled;
  kernel_count += other.kernel_count;
  time_enabled_ns += other.time_enabled_ns;
  time_running_ns += other.time_running_ns;
  duplicates += other.duplicates;
  other_users += other.other_users;
  gap_count += other.gap_count;
  gap_ns += other.gap_ns;
  const size_t room = kMaxGaps - std::min(kMaxGaps, gaps.size());
  const auto end = other.gaps.begin() + static_cast<ptrdiff_t>(std::min(room, other.gaps.size()));
  gaps.insert(gaps.end(), other.gaps.begin(), end);
  return *this;
}

}  // namespace lbrd::pmu
