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
  ++count_;
  since_[cpu] = from;
  if (gaps_.size() < kMaxGaps) gaps_.push_back({.cpu = cpu, .from_ns = from, .to_ns = 0});
}

void GapLog::End(int32_t cpu, uint64_t to) {
  absl::MutexLock lock(&mutex_);
  const auto since = since_.find(cpu);
  if (since == since_.end()) return;
  to = std::max(to, since->second);
  ended_ns_ += to - since->second;
  since_.erase(since);
  for (CpuGap& gap : gaps_) {
    if (gap.cpu == cpu && gap.to_ns == 0) gap.to_ns = to;
  }
}

void GapLog::Stop(uint64_t now) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [cpu, from] : since_) ended_ns_ += std::max(now, from) - from;
  since_.clear();
}

void GapLog::Describe(SourceStats* out) const {
  absl::MutexLock lock(&mutex_);
  out->gap_count = count_;
  out->gap_ns = ended_ns_;
  out->gaps = gaps_;
}

}  // namespace lbrd::pmu
