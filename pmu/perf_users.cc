#include "pmu/perf_users.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::pmu {
namespace {

// 65,530 mappings, the usual limit, of 250 bytes.
constexpr uint64_t kMaxMapsBytes = 16 << 20;
constexpr absl::string_view kRingName = "anon_inode:[perf_event]";

int32_t OwnPid(Kernel& kernel) {
  const absl::StatusOr<std::string> text = kernel.ReadFile("/proc/self/stat", 4096);
  int32_t pid = -1;
  if (!text.ok()) return pid;
  const std::vector<absl::string_view> words = absl::StrSplit(*text, absl::MaxSplits(' ', 1));
  return absl::SimpleAtoi(words[0], &pid) ? pid : -1;
}

uint32_t MappedRings(absl::string_view maps) {
  uint32_t rings = 0;
  for (size_t at = maps.find(kRingName); at != absl::string_view::npos;
       at = maps.find(kRingName, at + kRingName.size())) {
    ++rings;
  }
  return rings;
}

}  // namespace

PerfUsers FindPerfUsers(Kernel& kernel, uint64_t limit_ns) {
  PerfUsers found;
  const absl::StatusOr<std::vector<int32_t>> pids = kernel.ListNumbers("/proc");
  if (!pids.ok()) {
    found.all_seen = false;
    return found;
  }
  const int32_t own = OwnPid(kernel);
  const uint64_t end = kernel.Now() + limit_ns;
  for (const int32_t pid : *pids) {
    if (pid == own) continue;
    if (kernel.Now() > end) {
      found.all_seen = false;
      break;
    }
    const std::string folder = absl::StrCat("/proc/", pid);
    const absl::StatusOr<std::string> maps =
        kernel.ReadFile(absl::StrCat(folder, "/maps"), kMaxMapsBytes);
    if (!maps.ok()) continue;
    const uint32_t rings = MappedRings(*maps);
    if (rings == 0) continue;
    const absl::StatusOr<std::string> comm = kernel.ReadFile(absl::StrCat(folder, "/comm"), 64);
    found.users.push_back(
        {.pid = pid,
         .comm = comm.ok() ? std::string(absl::StripAsciiWhitespace(*comm)) : std::string("?"),
         .rings = rings});
  }
  return found;
}

}  // namespace lbrd::pmu
