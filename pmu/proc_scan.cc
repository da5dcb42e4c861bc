#include "pmu/proc_scan.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::pmu {
namespace {

// 65,530 mappings (the kernel's default limit) of a long path each.
constexpr uint64_t kMaxMapsBytes = uint64_t{32} << 20;

// /proc counts in USER_HZ, which is 100 on every architecture here.
constexpr uint64_t kTickNs = 10'000'000;

// Cuts the text before the next blank off `rest`, and the blanks after it.
absl::string_view TakeField(absl::string_view* rest) {
  const size_t end = std::min(rest->find(' '), rest->size());
  const absl::string_view field = rest->substr(0, end);
  rest->remove_prefix(end);
  *rest = absl::StripLeadingAsciiWhitespace(*rest);
  return field;
}

bool TakeHexPair(absl::string_view text, char separator, uint64_t* first, uint64_t* second) {
  const size_t at = text.find(separator);
  return at != absl::string_view::npos && absl::SimpleHexAtoi(text.substr(0, at), first) &&
         absl::SimpleHexAtoi(text.substr(at + 1), second);
}

}  // namespace

bool ParseProcMapping(absl::string_view line, ProcMapping* out) {
  *out = {};
  absl::string_view rest = line;
  if (!TakeHexPair(TakeField(&rest), '-', &out->start, &out->end)) return false;
  const absl::string_view permissions = TakeField(&rest);
  uint64_t major = 0;
  uint64_t minor = 0;
  if (permissions.size() != 4 || out->end <= out->start ||
      !absl::SimpleHexAtoi(TakeField(&rest), &out->offset) ||
      !TakeHexPair(TakeField(&rest), ':', &major, &minor) ||
      !absl::SimpleAtoi(TakeField(&rest), &out->inode)) {
    return false;
  }
  out->executable = permissions[2] == 'x';
  out->major = static_cast<uint32_t>(major);
  out->minor = static_cast<uint32_t>(minor);
  out->path = rest;
  return true;
}

int32_t GroupLeaderOf(Kernel& kernel, int32_t tid) {
  const absl::StatusOr<std::string> status =
      kernel.ReadFile(absl::StrCat("/proc/", tid, "/status"), 65536);
  if (!status.ok()) return tid;
  for (const absl::string_view line : absl::StrSplit(*status, '\n')) {
    int32_t pid = 0;
    if (line.substr(0, 5) == "Tgid:" &&
        absl::SimpleAtoi(absl::StripAsciiWhitespace(line.substr(5)), &pid)) {
      return pid;
    }
  }
  return tid;
}

std::optional<uint64_t> StartTicksOf(Kernel& kernel, int32_t pid, int32_t tid) {
  const absl::StatusOr<std::string> stat =
      kernel.ReadFile(absl::StrCat("/proc/", pid, "/task/", tid, "/stat"), 4096);
  if (!stat.ok()) return std::nullopt;
  // The name in field 2 may hold anything, so fields are counted from its closing bracket.
  const size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*stat).substr(name_end + 1), ' ', absl::SkipEmpty());
  uint64_t ticks = 0;
  if (fields.size() < 20 || !absl::SimpleAtoi(fields[19], &ticks)) return std::nullopt;
  return ticks;
}

StartClock::StartClock(Kernel& kernel) {
  const absl::StatusOr<std::string> text = kernel.ReadFile("/proc/uptime", 256);
  if (!text.ok()) return;
  double uptime_s = 0;
  if (!absl::SimpleAtod(text->substr(0, text->find(' ')), &uptime_s)) return;
  const auto uptime_ns = static_cast<uint64_t>(uptime_s * 1e9);
  const uint64_t now_ns = kernel.Now();
  // /proc/uptime is cut to 10 ms too. Less than that: it was never suspended.
  if (uptime_ns > now_ns + kTickNs) suspended_ns_ = uptime_ns - now_ns + kTickNs;
}

uint64_t StartClock::ToNs(uint64_t ticks) const {
  const uint64_t since_boot_ns = ticks > UINT64_MAX / kTickNs ? UINT64_MAX : ticks * kTickNs;
  return since_boot_ns > suspended_ns_ ? since_boot_ns - suspended_ns_ : 0;
}

absl::Status ScanProcess(Kernel& kernel, int32_t pid, RecordWriter* out,
                         std::vector<RunningThread>* threads) {
  const std::string folder = absl::StrCat("/proc/", pid);
  const absl::StatusOr<std::vector<int32_t>> tids = kernel.ListNumbers(folder + "/task");
  if (!tids.ok()) return tids.status();
  for (const int32_t tid : *tids) {
    const absl::StatusOr<std::string> comm =
        kernel.ReadFile(absl::StrCat(folder, "/task/", tid, "/comm"), 64);
    if (!comm.ok()) continue;  // the thread left
    const absl::string_view name = absl::StripTrailingAsciiWhitespace(*comm);
    out->Comm(pid, tid, name);
    if (threads == nullptr) continue;
    const std::optional<uint64_t> start = StartTicksOf(kernel, pid, tid);
    if (!start.has_value()) continue;
    threads->push_back({.pid = pid, .tid = tid, .start_ticks = *start, .comm = std::string(name)});
  }
  const absl::StatusOr<std::string> maps = kernel.ReadFile(folder + "/maps", kMaxMapsBytes);
  if (!maps.ok()) return maps.status();
  for (const absl::string_view line : absl::StrSplit(*maps, '\n', absl::SkipEmpty())) {
    ProcMapping mapping;
    if (!ParseProcMapping(line, &mapping) || !mapping.executable) continue;
    // "//anon" is what the kernel calls it in its own records.
    const absl::string_view path = mapping.path.empty() ? "//anon" : mapping.path;
    out->Mmap2(pid, pid, mapping.start, mapping.end - mapping.start, mapping.offset, true,
               {.build_id = {},
                .major = mapping.major,
                .minor = mapping.minor,
                .inode = mapping.inode,
                .inode_generation = 0},
               path);
  }
  return absl::OkStatus();
}

absl::Status ScanAllProcesses(Kernel& kernel, RecordWriter* out,
                              std::vector<RunningThread>* threads) {
  const absl::StatusOr<std::vector<int32_t>> pids = kernel.ListNumbers("/proc");
  if (!pids.ok()) return pids.status();
  // One that left meanwhile has nothing to tell.
  for (const int32_t pid : *pids) ScanProcess(kernel, pid, out, threads).IgnoreError();
  return absl::OkStatus();
}

}  // namespace lbrd::pmu
