// What the engine can ask of the broker, and how that is written: one message of a SOCK_SEQPACKET
// socket each way, a header of fixed size and a payload of at most kMaxBrokerPayload bytes, with at
// most one descriptor beside it (SCM_RIGHTS). Both ends are the same program on the same machine,
// so numbers are in its own order of bytes.
//
// The parser is the broker's first line against an engine that somebody has taken over: it accepts
// exactly what the encoder writes, and allocates nothing before it has. docs/design/privileges.md
// tells each request and its policy.
//
// Thread rules: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lbrd::daemon {

enum class BrokerCall : uint32_t {
  // perf_event_open(2): pid, cpu, flags; the payload is the attr. With PERF_FLAG_PID_CGROUP the
  // cgroup's folder comes as descriptor and pid is -1. Answer: a descriptor.
  kOpenEvent = 1,
  // A program or a jitdump file that process `pid` (-1: nobody, our own root) sees at the path in
  // the payload. Answer: a descriptor to read.
  kOpenBinary = 2,
  // /tmp/perf-NUMBER.map as process `pid` (-1: as above) sees it; NUMBER is in `flags`.
  kOpenPerfMap = 3,
  // /proc/PID/maps. Answer: a descriptor to read.
  kOpenMaps = 4,
  // Where /proc/PID/exe points to. Answer: that path as payload.
  kReadExe = 5,
  // /proc/kallsyms, with addresses. Answer: a descriptor to read.
  kOpenKernelSymbols = 6,
  // A folder below /sys/fs/cgroup: the payload is its path from there on. Answer: a descriptor.
  kOpenCgroup = 7,
  // The configuration file, whose path only the broker knows. Answer: a descriptor to read.
  kOpenConfig = 8,
  // Locks an event's ring of `flags` bytes in memory, so that the engine, which has no
  // CAP_IPC_LOCK,
  // can map the same one. Until kReleaseRing; one at a time. The event comes as descriptor.
  kHoldRing = 9,
  kReleaseRing = 10,
  // The payload is a message for systemd: broker_policy.h says which.
  kNotify = 11,
  // A file of the TLS endpoint, whose path only the broker knows: which one (daemon/tls_endpoint)
  // is in `flags`. Answer: a descriptor to read.
  kOpenTlsFile = 12,
};
inline constexpr uint32_t kLastBrokerCall = 12;

// PATH_MAX, its NUL left out; an attr and a message are shorter.
inline constexpr size_t kMaxBrokerPayload = 4095;
inline constexpr size_t kBrokerHeaderBytes = 48;
inline constexpr size_t kMaxBrokerMessage = kBrokerHeaderBytes + kMaxBrokerPayload;

struct BrokerRequest {
  BrokerCall call = BrokerCall::kOpenEvent;
  uint64_t id = 0;  // of the engine's choice; its answer has the same
  int32_t pid = 0;
  int32_t cpu = 0;
  uint64_t flags = 0;
  absl::string_view payload;
};

struct BrokerAnswer {
  uint64_t id = 0;
  int32_t error = 0;  // an errno; 0: done
  absl::string_view payload;
};

// A request without a payload that is too long; that one is cut.
std::string EncodeBrokerRequest(const BrokerRequest& request);
// kInvalidArgument. The payload points into `message`.
absl::StatusOr<BrokerRequest> ParseBrokerRequest(std::span<const std::byte> message);

std::string EncodeBrokerAnswer(const BrokerAnswer& answer);
absl::StatusOr<BrokerAnswer> ParseBrokerAnswer(std::span<const std::byte> message);

// "open-event"; "request 17" for what is none.
std::string BrokerCallName(BrokerCall call);

}  // namespace lbrd::daemon
