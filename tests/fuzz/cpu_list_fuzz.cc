// Any bytes as a CPU list, of sysfs or of a client.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "pmu/cpu_list.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lbrd::pmu::ParseCpuList;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<std::vector<int32_t>> cpus = ParseCpuList(text);
  if (!cpus.ok()) {
    Check(!cpus.status().message().empty());
    return 0;
  }
  Check(cpus->size() <= size_t{lbrd::pmu::kMaxCpu} + 1);
  Check(std::adjacent_find(cpus->begin(), cpus->end(), std::greater_equal<>()) == cpus->end());
  Check(cpus->empty() || (cpus->front() >= 0 && cpus->back() <= lbrd::pmu::kMaxCpu));
  // Of long lists the way back would take all the time there is.
  if (cpus->size() > 4096) return 0;
  // Written out one by one it says the same.
  const absl::StatusOr<std::vector<int32_t>> again = ParseCpuList(absl::StrJoin(*cpus, ","));
  Check(again.ok() && *again == *cpus);
  return 0;
}
