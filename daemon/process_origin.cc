#include "daemon/process_origin.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/process_status.h"
#include "pmu/proc_scan.h"

namespace lbrd::daemon {
namespace {

constexpr uint64_t kMaxCgroupBytes = 64 << 10;
// A process seldom changes user or cgroup.
constexpr uint64_t kFreshNs = 60'000'000'000;

// Lines "ID:controllers:path"; v2's has ID 0 and no controllers.
std::string CgroupOf(absl::string_view text) {
  absl::string_view perf_event;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "0::")) return std::string(line.substr(3));
    const std::pair<absl::string_view, absl::string_view> rest = absl::StrSplit(
        line.substr(std::min(line.size(), line.find(':') + 1)), absl::MaxSplits(':', 1));
    if (rest.first == "perf_event") perf_event = rest.second;
  }
  return std::string(perf_event);
}

}  // namespace

std::optional<ProcessOrigin> ReadProcessOrigin(pmu::Kernel& kernel, int32_t pid) {
  if (pid == 0) return ProcessOrigin{.uid = 0, .owner = 0, .cgroup = "/", .exe = ""};
  // The start time first and last: what lies between belongs to one process.
  const std::optional<uint64_t> start = pmu::StartTicksOf(kernel, pid, pid);
  if (!start.has_value()) return std::nullopt;
  ProcessOrigin origin{.start_ticks = *start};
  const std::string folder = absl::StrCat("/proc/", pid);
  const absl::StatusOr<std::string> text = kernel.ReadFile(folder + "/status", kMaxStatusBytes);
  const std::optional<ProcessUsers> users =
      text.ok() ? ParseProcessStatus(*text).users : std::nullopt;
  if (users.has_value()) {
    origin.uid = users->effective;
    if (users->real == users->effective && users->saved == users->effective) {
      origin.owner = users->effective;
    }
  }
  const absl::StatusOr<std::string> cgroup = kernel.ReadFile(folder + "/cgroup", kMaxCgroupBytes);
  if (cgroup.ok()) origin.cgroup = CgroupOf(*cgroup);
  origin.exe = kernel.ReadLink(folder + "/exe").value_or("");
  if (pmu::StartTicksOf(kernel, pid, pid) != start) return std::nullopt;
  return origin;
}

void ProcessOriginTable::Read(int32_t pid) {
  const uint64_t now_ns = kernel_.Now();
  if (known_.size() >= kMaxProcesses) known_.clear();
  Known& known = known_[pid];
  if (known.origin != nullptr && now_ns < known.read_ns + kFreshNs &&
      (pid == 0 || pmu::StartTicksOf(kernel_, pid, pid) == known.origin->start_ticks)) {
    return;
  }
  std::optional<ProcessOrigin> origin = ReadProcessOrigin(kernel_, pid);
  known.read_ns = now_ns;
  known.origin =
      origin.has_value() ? std::make_shared<const ProcessOrigin>(*std::move(origin)) : nullptr;
}

std::shared_ptr<const ProcessOrigin> ProcessOriginTable::Find(int32_t pid, uint64_t sample_ns) {
  const auto found = known_.find(pid);
  if (found == known_.end() || found->second.origin == nullptr || pid == 0) {
    return found == known_.end() ? nullptr : found->second.origin;
  }
  const ProcessOrigin& origin = *found->second.origin;
  if (pmu::StartClock(kernel_).ToNs(origin.start_ticks) > sample_ns) return nullptr;
  const std::optional<uint64_t> now = pmu::StartTicksOf(kernel_, pid, pid);
  if (now.has_value() && *now != origin.start_ticks) return nullptr;
  return found->second.origin;
}

}  // namespace lbrd::daemon
