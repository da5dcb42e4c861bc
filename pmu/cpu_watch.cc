#include "pmu/cpu_watch.h"

#include <algorithm>
#include <iterator>

#include "pmu/cpu_list.h"

namespace lbrd::pmu {

absl::StatusOr<std::vector<int32_t>> OnlineCpus(Kernel& kernel) {
  absl::StatusOr<std::string> text = kernel.ReadFile("/sys/devices/system/cpu/online", 65536);
  if (!text.ok()) return text.status();
  return ParseCpuList(*text);
}

absl::StatusOr<std::vector<int32_t>> PresentCpus(Kernel& kernel) {
  absl::StatusOr<std::vector<int32_t>> online = OnlineCpus(kernel);
  if (!online.ok()) return online;
  const absl::StatusOr<std::string> text =
      kernel.ReadFile("/sys/devices/system/cpu/present", 65536);
  if (!text.ok()) return online;
  const absl::StatusOr<std::vector<int32_t>> present = ParseCpuList(*text);
  if (!present.ok()) return online;
  std::vector<int32_t> all;
  std::set_union(online->begin(), online->end(), present->begin(), present->end(),
                 std::back_inserter(all));
  return all;
}

bool CpuWatch::Due(uint64_t now) {
  if (now < next_) return false;
  next_ = now + kIntervalNs;
  return true;
}

void GapLog::Begin(int32_t cpu, uint64_t from) {
  absl::MutexLock lock(&mutex_);
  CpuGapTotal& total = totals_[cpu];
  total.cpu = cpu;
  ++total.count;
  total.since_ns = from;
  const CpuGap gap{.cpu = cpu, .from_ns = from, .to_ns = 0};
  if (gaps_.size() < kMaxGaps) gaps_.push_back(gap);
  recent_.push_back(gap);
  if (recent_.size() > kRecentGaps) recent_.pop_front();
}

void GapLog::End(int32_t cpu, uint64_t to) {
  absl::MutexLock lock(&mutex_);
  const auto total = totals_.find(cpu);
  if (total == totals_.end() || total->second.since_ns == 0) return;
  to = std::max(to, total->second.since_ns);
  total->second.ended_ns += to - total->second.since_ns;
  total->second.since_ns = 0;
  ended_.fetch_add(1, std::memory_order_relaxed);
  const auto end_in = [cpu, to](auto& gaps) {
    for (CpuGap& gap : gaps) {
      if (gap.cpu == cpu && gap.to_ns == 0) gap.to_ns = to;
    }
  };
  end_in(gaps_);
  end_in(recent_);
}

void GapLog::Stop(uint64_t now) {
  absl::MutexLock lock(&mutex_);
  for (auto& [cpu, total] : totals_) {
    if (total.since_ns == 0) continue;
    total.ended_ns += std::max(now, total.since_ns) - total.since_ns;
    total.since_ns = 0;
  }
}

void GapLog::Describe(SourceStats* out) const {
  absl::MutexLock lock(&mutex_);
  out->gap_count = 0;
  out->gap_ns = 0;
  out->gaps_by_cpu.clear();
  for (const auto& [cpu, total] : totals_) {
    out->gap_count += total.count;
    out->gap_ns += total.ended_ns;
    out->gaps_by_cpu.push_back(total);
  }
  out->gaps = gaps_;
  out->recent_gaps.assign(recent_.begin(), recent_.end());
}

}  // namespace lbrd::pmu
