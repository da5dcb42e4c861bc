#include "pmu/uid_filter.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::pmu {

std::optional<uint32_t> UserOf(Kernel& kernel, int32_t pid) {
  if (pid == 0) return 0;
  const absl::StatusOr<std::string> status =
      kernel.ReadFile(absl::StrCat("/proc/", pid, "/status"), 65536);
  if (!status.ok()) return std::nullopt;
  for (const absl::string_view line : absl::StrSplit(*status, '\n')) {
    if (line.substr(0, 4) != "Uid:") continue;
    // Real, effective, saved, file system.
    const std::vector<absl::string_view> uids =
        absl::StrSplit(line.substr(4), absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint32_t uid = 0;
    if (uids.size() >= 2 && absl::SimpleAtoi(uids[1], &uid)) return uid;
  }
  return std::nullopt;
}

void UidFilter::Forked(int32_t pid, int32_t parent_pid) {
  if (pid == parent_pid) return;
  const auto parent = processes_.find(parent_pid);
  const std::optional<uint32_t> uid =
      parent != processes_.end() ? parent->second.uid : UserOf(kernel_, parent_pid);
  processes_[pid] = {.uid = uid};
}

void UidFilter::Executed(int32_t pid) {
  if (const auto found = processes_.find(pid); found != processes_.end()) {
    found->second.looked_at = 0;
  }
}

void UidFilter::Exited(int32_t pid) { processes_.erase(pid); }

std::optional<uint32_t> UidFilter::User(int32_t pid, uint64_t now) {
  Known& known = processes_[pid];
  if (known.looked_at == 0 || now - known.looked_at > kFreshNs) {
    const std::optional<uint32_t> uid = UserOf(kernel_, pid);
    if (uid.has_value()) known.uid = uid;
    known.looked_at = now;
  }
  return known.uid;
}

}  // namespace lbrd::pmu
