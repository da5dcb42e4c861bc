// What the broker grants of what the engine asks for. The engine may be in the hands of whoever
// made the file it parsed last, so what it asks for is judged as if it were:
// docs/design/privileges.md.
//
// Every check says by status what it refuses: kPermissionDenied for what is never granted,
// kInvalidArgument for what makes no sense.
// Thread rules: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/broker_protocol.h"
#include "pmu/abi.h"

namespace lbrd::daemon {

// CPUs and processes that Linux can have (CPU numbers: 8192 by configuration; PID_MAX_LIMIT).
inline constexpr int32_t kMaxCpu = 1 << 16;
inline constexpr int32_t kMaxPid = 1 << 22;
// pmu::kMaxRingBytes and a control page of at most 64 KiB.
inline constexpr uint64_t kMaxHeldRingBytes = (uint64_t{256} << 20) + 65536;

// The PMUs of this machine whose events count or sample and do nothing else: the fixed types, and
// what stands below /sys/bus/event_source/devices but for kprobe, uprobe (they change code) and
// those that trace into memory of their own.
struct EventTypes {
  std::set<uint32_t> dynamic;
};
bool IsHarmlessPmu(absl::string_view name);

// The attr is the request's payload.
absl::Status CheckOpenEvent(const BrokerRequest& request, bool has_descriptor,
                            const EventTypes& types, perf_event_attr* attr);
// pid: of a process, or -1 where `or_none`.
absl::Status CheckPid(int32_t pid, bool or_none);
// An absolute path without a NUL.
absl::Status CheckAbsolutePath(absl::string_view path);
// A path below /sys/fs/cgroup, without "..".
absl::Status CheckCgroupPath(absl::string_view path);
absl::Status CheckRingBytes(uint64_t bytes, uint64_t page_bytes);
// Lines READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1, and STATUS= with printable text.
absl::Status CheckNotification(absl::string_view message);

// Whether a file that begins so may be read as a binary: an ELF or a jitdump file. Whoever could
// make somebody else's secret begin so knows it already.
bool IsBinary(std::span<const std::byte> start);
// Whether a file called /tmp/perf-N.map may be read as the map of a process of `process_uid`. Its
// text could be anything, and in a mount namespace of its own a process can put any file in its
// place: so it must be the process's user's, or root's and open to everybody. Negative: the process
// is gone, and the file is below our root, where /tmp holds of everybody what is their own.
bool IsPerfMap(uint32_t owner, uint32_t mode, int64_t process_uid);

}  // namespace lbrd::daemon
