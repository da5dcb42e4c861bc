#include "daemon/broker_policy.h"

#include <elf.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::daemon {
namespace {

// The word of one-bit fields begins here (pmu/event_request.cc).
constexpr size_t kFlagWordOffset = 40;

uint64_t FlagWord(const perf_event_attr& attr) {
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const char*>(&attr) + kFlagWordOffset, sizeof(flags));
  return flags;
}

// The bits that lbrd's events have. Not among them: pinned and exclusive, which take the PMU from
// others; sigtrap; aux_output; write_backward; and what is not known yet.
uint64_t AllowedFlags() {
  perf_event_attr attr{};
  attr.disabled = 1;
  attr.inherit = 1;
  attr.exclude_user = 1;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  attr.exclude_idle = 1;
  attr.mmap = 1;
  attr.comm = 1;
  attr.freq = 1;
  attr.enable_on_exec = 1;
  attr.task = 1;
  attr.watermark = 1;
  attr.precise_ip = 3;
  attr.sample_id_all = 1;
  attr.exclude_host = 1;
  attr.exclude_guest = 1;
  attr.exclude_callchain_kernel = 1;
  attr.exclude_callchain_user = 1;
  attr.mmap2 = 1;
  attr.comm_exec = 1;
  attr.use_clockid = 1;
  attr.context_switch = 1;
  attr.ksymbol = 1;
  attr.build_id = 1;
  return FlagWord(attr) | pmu::kAttrDeferCallchain | pmu::kAttrDeferOutput;
}

// Not among them: physical addresses, raw data, registers of the kernel, AUX data, transactions.
constexpr uint64_t kAllowedSample =
    PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR | PERF_SAMPLE_READ |
    PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD |
    PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER |
    PERF_SAMPLE_STACK_USER | PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_CGROUP;

absl::Status Denied(absl::string_view what) { return absl::PermissionDeniedError(what); }

absl::Status CheckAttr(const perf_event_attr& attr, const EventTypes& types) {
  if (attr.size != sizeof(attr)) return absl::InvalidArgumentError("an attr of another size");
  switch (attr.type) {
    case PERF_TYPE_HARDWARE:
    case PERF_TYPE_SOFTWARE:
    case PERF_TYPE_TRACEPOINT:
    case PERF_TYPE_HW_CACHE:
    case PERF_TYPE_RAW:
    case PERF_TYPE_BREAKPOINT:
      break;
    default:
      if (types.dynamic.count(attr.type) == 0) {
        return Denied(absl::StrCat("an event of type ", attr.type));
      }
  }
  if ((FlagWord(attr) & ~AllowedFlags()) != 0) {
    return Denied(absl::StrCat("attr flags ", absl::Hex(FlagWord(attr) & ~AllowedFlags())));
  }
  if ((attr.sample_type & ~kAllowedSample) != 0) {
    return Denied(absl::StrCat("sample_type ", absl::Hex(attr.sample_type & ~kAllowedSample)));
  }
  if (attr.sample_regs_intr != 0 || attr.aux_watermark != 0 || attr.aux_sample_size != 0 ||
      attr.sig_data != 0) {
    return Denied("an attr with kernel registers, AUX data or a signal");
  }
  return absl::OkStatus();
}

}  // namespace

bool IsHarmlessPmu(absl::string_view name) {
  for (const absl::string_view prefix : {"kprobe", "uprobe", "intel_pt", "intel_bts", "cs_etm",
                                         "coresight", "arm_spe", "hisi_ptt"}) {
    if (absl::StartsWith(name, prefix)) return false;
  }
  return true;
}

absl::Status CheckPid(int32_t pid, bool or_none) {
  if (pid == -1 && or_none) return absl::OkStatus();
  if (pid > 0 && pid <= kMaxPid) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("no process can have the number ", pid));
}

absl::Status CheckOpenEvent(const BrokerRequest& request, bool has_descriptor,
                            const EventTypes& types, perf_event_attr* attr) {
  if (request.payload.size() != sizeof(*attr)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an attr of ", request.payload.size(), " bytes"));
  }
  std::memcpy(attr, request.payload.data(), sizeof(*attr));
  if (absl::Status good = CheckAttr(*attr, types); !good.ok()) return good;
  if (request.cpu < -1 || request.cpu > kMaxCpu) {
    return absl::InvalidArgumentError(absl::StrCat("no CPU can have the number ", request.cpu));
  }
  const bool cgroup = request.flags == PERF_FLAG_PID_CGROUP;
  if ((request.flags != 0 && !cgroup) || cgroup != has_descriptor) {
    return Denied(absl::StrCat("perf_event_open with flags ", absl::Hex(request.flags),
                               has_descriptor ? " and" : " without", " a descriptor"));
  }
  // 0 would be the broker itself.
  if (absl::Status good = CheckPid(request.pid, /*or_none=*/true); !good.ok()) return good;
  if (cgroup && request.pid != -1) return absl::InvalidArgumentError("a cgroup and a process");
  if (request.pid == -1 && request.cpu < 0) {
    return absl::InvalidArgumentError("neither a process nor a CPU");
  }
  return absl::OkStatus();
}

absl::Status CheckAbsolutePath(absl::string_view path) {
  if (!absl::StartsWith(path, "/") || absl::StrContains(path, absl::string_view("\0", 1))) {
    return absl::InvalidArgumentError("not an absolute path");
  }
  return absl::OkStatus();
}

absl::Status CheckCgroupPath(absl::string_view path) {
  if (absl::StrContains(path, absl::string_view("\0", 1))) {
    return absl::InvalidArgumentError("not a path");
  }
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part == "..") return Denied("a cgroup by way of its parent");
  }
  return absl::OkStatus();
}

absl::Status CheckRingBytes(uint64_t bytes, uint64_t page_bytes) {
  if (bytes < page_bytes || bytes > kMaxHeldRingBytes || bytes % page_bytes != 0) {
    return Denied(absl::StrCat("a ring of ", bytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckNotification(absl::string_view message) {
  constexpr size_t kMaxStatusBytes = 512;
  for (absl::string_view line : absl::StrSplit(message, '\n')) {
    if (line == "READY=1" || line == "RELOADING=1" || line == "STOPPING=1" ||
        line == "WATCHDOG=1") {
      continue;
    }
    if (absl::StartsWith(line, "STATUS=") && line.size() <= kMaxStatusBytes &&
        std::all_of(line.begin(), line.end(), [](char c) {
          return absl::ascii_isprint(static_cast<unsigned char>(c)) || (c & 0x80) != 0;
        })) {
      continue;
    }
    return Denied("a message that systemd is not to get");
  }
  return absl::OkStatus();
}

bool IsBinary(std::span<const std::byte> start) {
  if (start.size() < SELFMAG) return false;
  // A jitdump file begins with "JiTD" in its writer's order of bytes.
  for (const char* magic : {ELFMAG, "JiTD", "DTiJ"}) {
    if (std::memcmp(start.data(), magic, SELFMAG) == 0) return true;
  }
  return false;
}

bool IsPerfMap(uint32_t owner, uint32_t mode, int64_t process_uid) {
  if (process_uid < 0 || owner == static_cast<uint64_t>(process_uid)) return true;
  return owner == 0 && (mode & S_IROTH) != 0;
}

}  // namespace lbrd::daemon
