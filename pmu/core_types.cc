#include "pmu/core_types.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pmu/cpu_list.h"

namespace lbrd::pmu {
namespace {

constexpr int kTypeShift = 32;  // PERF_PMU_TYPE_SHIFT

bool Generic(const perf_event_attr& attr) {
  return (attr.type == PERF_TYPE_HARDWARE || attr.type == PERF_TYPE_HW_CACHE) &&
         attr.config >> kTypeShift == 0;
}

}  // namespace

CoreTypes CoreTypes::Read(Kernel& kernel) {
  CoreTypes core_types;
  for (const char* name : {"cpu_core", "cpu_atom", "cpu_lowpower"}) {
    const std::string folder = absl::StrCat("/sys/devices/", name);
    const absl::StatusOr<std::string> type = kernel.ReadFile(folder + "/type", 64);
    const absl::StatusOr<std::string> list = kernel.ReadFile(folder + "/cpus", 65536);
    CoreType found{.name = name};
    if (!type.ok() || !list.ok() ||
        !absl::SimpleAtoi(absl::StripAsciiWhitespace(*type), &found.type)) {
      continue;
    }
    absl::StatusOr<std::vector<int32_t>> cpus = ParseCpuList(*list);
    if (!cpus.ok() || cpus->empty()) continue;
    found.cpus = *std::move(cpus);
    core_types.types_.push_back(std::move(found));
  }
  return core_types;
}

std::optional<perf_event_attr> CoreTypes::OnCpu(const perf_event_attr& attr, int32_t cpu) const {
  if (!hybrid() || attr.type == PERF_TYPE_SOFTWARE) return attr;
  const auto own = std::find_if(types_.begin(), types_.end(), [cpu](const CoreType& type) {
    return std::binary_search(type.cpus.begin(), type.cpus.end(), cpu);
  });
  if (own == types_.end()) return attr;
  perf_event_attr here = attr;
  if (Generic(attr)) {
    here.config |= uint64_t{own->type} << kTypeShift;
    return here;
  }
  for (const CoreType& type : types_) {
    const bool of_type = attr.type == type.type ||
                         ((attr.type == PERF_TYPE_HARDWARE || attr.type == PERF_TYPE_HW_CACHE) &&
                          attr.config >> kTypeShift == type.type);
    if (of_type && type.type != own->type) return std::nullopt;
  }
  return here;
}

std::vector<perf_event_attr> CoreTypes::OnAnyCpu(const perf_event_attr& attr) const {
  if (!hybrid() || !Generic(attr)) return {attr};
  std::vector<perf_event_attr> attrs;
  for (const CoreType& type : types_) {
    attrs.push_back(attr);
    attrs.back().config |= uint64_t{type.type} << kTypeShift;
  }
  return attrs;
}

}  // namespace lbrd::pmu
