#include "daemon/planner.h"

#include <algorithm>
#include <iterator>

namespace lbrd::daemon {

CpuSet UnionOf(const CpuSet& a, const CpuSet& b) {
  if (a.empty() || b.empty()) return {};
  CpuSet both;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

bool Covers(const CpuSet& all, const CpuSet& some) {
  if (all.empty()) return true;
  return !some.empty() && std::includes(all.begin(), all.end(), some.begin(), some.end());
}

FlowKind KindOf(const v1::SessionSpec& spec) {
  const bool may_copy = spec.stack_mode() == v1::STACK_MODE_UNSPECIFIED ||
                        spec.stack_mode() == v1::STACK_MODE_DWARF ||
                        spec.stack_mode() == v1::STACK_MODE_LBR;
  return {.event = spec.event(),
          .stack_mode = spec.stack_mode(),
          .stack_copy_bytes = may_copy ? spec.stack_copy_bytes() : 0,
          .ring_bytes = spec.ring_bytes(),
          .user_only = spec.user_only(),
          .allow_multiplex = spec.allow_multiplex(),
          .branch_filter = spec.branch_filter(),
          .by_period = spec.period() != 0};
}

uint64_t RateOf(const v1::SessionSpec& spec) {
  return spec.period() != 0 ? spec.period() : spec.frequency_hz();
}

uint64_t FasterRate(const FlowKind& kind, uint64_t a, uint64_t b) {
  return kind.by_period ? std::min(a, b) : std::max(a, b);
}

uint64_t SlowerRate(const FlowKind& kind, uint64_t a, uint64_t b) {
  return kind.by_period ? std::max(a, b) : std::min(a, b);
}

uint64_t SlowedRate(const FlowKind& kind, uint64_t rate, uint32_t factor) {
  if (!kind.by_period) return std::max<uint64_t>(rate / factor, 1);
  constexpr uint64_t kMost = INT64_MAX;  // the kernel's
  return rate > kMost / factor ? kMost : rate * factor;
}

double KeepProbability(const FlowKind& kind, uint64_t flow_rate, uint64_t rate) {
  const auto flow = static_cast<double>(flow_rate);
  const auto wanted = static_cast<double>(rate);
  return std::min(1.0, kind.by_period ? flow / wanted : wanted / flow);
}

Sharing SharingOf(const v1::SessionSpec& spec) {
  switch (spec.target().kind_case()) {
    case v1::Target::kAllCpus:
    case v1::Target::kCpuList:
    case v1::Target::kUser:
      return Sharing::kAlways;
    case v1::Target::kProcess:
      return spec.target().process().enable_on_exec() ? Sharing::kNever : Sharing::kIfThere;
    case v1::Target::kThread:
      return Sharing::kIfThere;
    default:
      return Sharing::kNever;
  }
}

absl::string_view WhyNotShared(const v1::SessionSpec& spec) {
  switch (spec.target().kind_case()) {
    case v1::Target::kProcess:
      return spec.target().process().enable_on_exec()
                 ? "events of its own: they begin to count in the kernel, with the command's exec"
                 : "events of its own: no session of the same kind watches the whole machine";
    case v1::Target::kThread:
      return "events of its own: no session of the same kind watches the whole machine";
    case v1::Target::kCgroup:
      return "events of its own: only the kernel knows at every moment what is in a cgroup";
    default:
      return "";
  }
}

std::optional<size_t> ChooseFlow(const FlowDemand& demand, std::span<const FlowPlace> flows) {
  if (demand.sharing == Sharing::kNever) return std::nullopt;
  for (size_t i = 0; i < flows.size(); ++i) {
    if (flows[i].kind != demand.kind) continue;
    if (demand.sharing == Sharing::kIfThere && !flows[i].cpus.empty()) continue;
    if (!Covers(flows[i].cpus, demand.cpus) && !flows[i].can_widen) continue;
    return i;
  }
  return std::nullopt;
}

}  // namespace lbrd::daemon
