#include "pmu/probe_limits.h"

#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pmu/event_request.h"
#include "pmu/event_set.h"

namespace lbrd::pmu {
namespace {

constexpr int kCapIpcLock = 14;  // <linux/capability.h>; lifts the limit on pinned rings
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

template <typename T>
std::optional<T> ReadNumber(Kernel& kernel, const char* path) {
  const absl::StatusOr<std::string> text = kernel.ReadFile(path, 64);
  T value;
  if (!text.ok() || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &value)) {
    return std::nullopt;
  }
  return value;
}

// The rest of the line of /proc/self/`file` that begins with `key`.
std::string OwnLine(Kernel& kernel, const char* file, absl::string_view key) {
  const absl::StatusOr<std::string> text =
      kernel.ReadFile(absl::StrCat("/proc/self/", file), 65536);
  if (!text.ok()) return "";
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (absl::StartsWith(line, key)) return std::string(line.substr(key.size()));
  }
  return "";
}

bool HasIpcLock(Kernel& kernel) {
  uint64_t effective = 0;
  const std::string line = OwnLine(kernel, "status", "CapEff:");
  return absl::SimpleHexAtoi(absl::StripAsciiWhitespace(line), &effective) &&
         (effective >> kCapIpcLock & 1) != 0;
}

// RLIMIT_MEMLOCK, soft, in bytes.
uint64_t MemlockLimit(Kernel& kernel) {
  const std::string line = OwnLine(kernel, "limits", "Max locked memory");
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
  uint64_t bytes = 0;
  if (words.empty() || words[0] == "unlimited") return kUnlimited;
  return absl::SimpleAtoi(words[0], &bytes) ? bytes : 0;
}

// Maps a ring of a dummy event and gives it back: 0, or an errno.
int TryRing(Kernel& kernel, int32_t cpu, uint64_t bytes) {
  const int fd =
      kernel.OpenEvent(BuildSideBandAttr(/*build_ids=*/false, /*read_lost=*/false), -1, cpu);
  if (fd < 0) return -fd;
  int error = 0;
  void* ring = kernel.MapRing(fd, bytes, &error);
  if (ring != nullptr) kernel.UnmapRing(ring, bytes);
  kernel.Close(fd);
  return ring != nullptr ? 0 : error;
}

std::string Mebibytes(uint64_t bytes) {
  return bytes == kUnlimited ? "unlimited" : absl::StrCat(bytes >> 20, " MiB");
}

}  // namespace

Probe ProbeParanoid(Kernel& kernel, bool events_open) {
  Probe probe{.name = "paranoid-level"};
  const std::optional<int32_t> level =
      ReadNumber<int32_t>(kernel, "/proc/sys/kernel/perf_event_paranoid");
  if (!level.has_value()) {
    probe.verdict = ProbeVerdict::kMissing;
    probe.value = "no kernel.perf_event_paranoid";
    probe.why = "This kernel was built without perf events, or /proc is not mounted.";
    probe.action = "use a kernel with CONFIG_PERF_EVENTS";
    return probe;
  }
  probe.value = absl::StrCat(*level, events_open ? ", and lbrd may open events" : "");
  // Linux itself knows levels up to 2. Distributors' kernels (Debian's) have more, and lift those
  // for CAP_SYS_ADMIN alone.
  const bool distributors = *level > 2;
  probe.why = absl::StrCat("kernel.perf_event_paranoid is ", *level, "; root and ",
                           distributors ? "CAP_SYS_ADMIN" : "CAP_PERFMON", " are not bound by it.");
  if (!events_open) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.action =
        distributors
            ? "sysctl kernel.perf_event_paranoid=2, or run lbrd as root"
            : "run lbrd as root or with CAP_PERFMON, or sysctl kernel.perf_event_paranoid=-1";
  }
  return probe;
}

Probe ProbeRingMemory(Kernel& kernel, int32_t cpu, size_t cpus) {
  Probe probe{.name = "ring-memory"};
  const uint64_t sysctl_bytes =
      ReadNumber<uint64_t>(kernel, "/proc/sys/kernel/perf_event_mlock_kb").value_or(0) << 10;
  const uint64_t memlock = MemlockLimit(kernel);
  const bool unbound =
      kernel.rings_unbound() || HasIpcLock(kernel) ||
      ReadNumber<int32_t>(kernel, "/proc/sys/kernel/perf_event_paranoid").value_or(2) < 0;
  probe.why = absl::StrCat("kernel.perf_event_mlock_kb gives ", sysctl_bytes >> 10,
                           " KiB a CPU, RLIMIT_MEMLOCK ", Mebibytes(memlock), " more; ",
                           unbound ? "lbrd is bound by neither" : "lbrd is bound by both",
                           " (CAP_IPC_LOCK, or a paranoid level of -1, lifts them).");
  const std::string action =
      "run lbrd as root, raise LimitMEMLOCK= or kernel.perf_event_mlock_kb, or use smaller rings "
      "(--ring)";
  if (const int error = TryRing(kernel, cpu, kDefaultRingBytes); error != 0) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.value = absl::StrCat("no ring of ", Mebibytes(kDefaultRingBytes), ": ", strerror(error));
    probe.action = action;
    return probe;
  }
  // A page of each ring is its control page.
  const uint64_t needed = (kDefaultRingBytes + kernel.PageBytes()) * cpus;
  const uint64_t allowed =
      memlock == kUnlimited ? kUnlimited : memlock + sysctl_bytes * static_cast<uint64_t>(cpus);
  if (!unbound && allowed < needed) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.value = absl::StrCat(Mebibytes(allowed), " of the ", Mebibytes(needed), " needed");
    probe.action = action;
    return probe;
  }
  probe.value = absl::StrCat(Mebibytes(kDefaultRingBytes), " on each CPU");
  return probe;
}

Probe ProbeChainDepth(Kernel& kernel) {
  Probe probe{.name = "chain-depth"};
  const std::optional<uint32_t> most =
      ReadNumber<uint32_t>(kernel, "/proc/sys/kernel/perf_event_max_stack");
  if (!most.has_value()) {
    probe.verdict = ProbeVerdict::kNotTried;
    probe.value = "no kernel.perf_event_max_stack";
    probe.why = "This kernel does not say how deep its call chains are.";
    return probe;
  }
  probe.value = absl::StrCat(*most, " frames");
  probe.why = absl::StrCat("kernel.perf_event_max_stack is ", *most, "; lbrd asks for ",
                           kMaxChainEntries, ".");
  if (*most < kMaxChainEntries) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.action = absl::StrCat("sysctl kernel.perf_event_max_stack=", kMaxChainEntries);
  }
  return probe;
}

Probe ProbeNmiWatchdog(Kernel& kernel, bool has_pmu, bool short_of_counters) {
  Probe probe{.name = "nmi-watchdog"};
  const bool on = ReadNumber<int32_t>(kernel, "/proc/sys/kernel/nmi_watchdog").value_or(0) != 0;
  if (!has_pmu) {
    probe.verdict = ProbeVerdict::kNotTried;
    probe.value = "no counter to take";
    probe.why = "The watchdog would use a hardware counter of each CPU; there is none here.";
    return probe;
  }
  probe.value = on ? "on: has one counter of each CPU" : "off";
  probe.why = absl::StrCat("kernel.nmi_watchdog is ", on ? 1 : 0, "; ",
                           short_of_counters ? "an event was seen to be time-shared."
                                             : "no event was seen to lack a counter for it.");
  if (on && short_of_counters) {
    probe.verdict = ProbeVerdict::kDegraded;
    probe.action = "sysctl kernel.nmi_watchdog=0 gives that counter back";
  }
  return probe;
}

}  // namespace lbrd::pmu
