#include "daemon/process_origin.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pmu/proc_scan.h"

namespace lbrd::daemon {
namespace {

constexpr uint64_t kMaxFileBytes = 64 << 10;
// A process seldom changes user or cgroup.
constexpr uint64_t kFreshNs = 60'000'000'000;

// "Uid:  real effective saved file-system".
void ReadUsers(absl::string_view status, ProcessOrigin* origin) {
  for (const absl::string_view line : absl::StrSplit(status, '\n')) {
    if (!absl::StartsWith(line, "Uid:")) continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line.substr(4), absl::ByAnyChar("\t "), absl::SkipEmpty());
    uint32_t real = 0;
    uint32_t effective = 0;
    uint32_t saved = 0;
    if (fields.size() < 3 || !absl::SimpleAtoi(fields[0], &real) ||
        !absl::SimpleAtoi(fields[1], &effective) || !absl::SimpleAtoi(fields[2], &saved)) {
      return;
    }
    origin->uid = effective;
    if (real == effective && saved == effective) origin->owner = effective;
    return;
  }
}

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

std::string ReadExe(int32_t pid) {
  char exe[PATH_MAX];
  const ssize_t length = readlink(absl::StrCat("/proc/", pid, "/exe").c_str(), exe, sizeof(exe));
  return length > 0 ? std::string(exe, static_cast<size_t>(length)) : "";
}

std::function<std::string(int32_t)>& ExeReader() {
  static std::function<std::string(int32_t)> reader = ReadExe;
  return reader;
}

}  // namespace

void SetExeReader(std::function<std::string(int32_t)> reader) { ExeReader() = std::move(reader); }

std::optional<ProcessOrigin> ReadProcessOrigin(pmu::Kernel& kernel, int32_t pid) {
  if (pid == 0) return ProcessOrigin{.uid = 0, .owner = 0, .cgroup = "/", .exe = ""};
  // The start time first and last: what lies between belongs to one process.
  const std::optional<uint64_t> start = pmu::StartTicksOf(kernel, pid, pid);
  if (!start.has_value()) return std::nullopt;
  ProcessOrigin origin{.start_ticks = *start};
  const std::string folder = absl::StrCat("/proc/", pid);
  const absl::StatusOr<std::string> status = kernel.ReadFile(folder + "/status", kMaxFileBytes);
  if (status.ok()) ReadUsers(*status, &origin);
  const absl::StatusOr<std::string> cgroup = kernel.ReadFile(folder + "/cgroup", kMaxFileBytes);
  if (cgroup.ok()) origin.cgroup = CgroupOf(*cgroup);
  origin.exe = ExeReader()(pid);
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
