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
  if (gaps_.size() < kMaxGaps) gaps_.push_back({.cpu = cpu, .from_ns = from, .to_ns = 0});
}

void GapLog::End(int32_t cpu, uint64_t to) {
  absl::MutexLock lock(&mutex_);
  for (CpuGap& gap : gaps_) {
    if (gap.cpu == cpu && gap.to_ns == 0) gap.to_ns = to;
  }
}

uint64_t GapLog::Copy(std::vector<CpuGap>* out) const {
  absl::MutexLock lock(&mutex_);
  *out = gaps_;
  return count_;
}

}  // namespace lbrd::pmu
