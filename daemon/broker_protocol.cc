#include "daemon/broker_protocol.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/abi.h"

namespace lbrd::daemon {
namespace {

constexpr uint32_t kRequestMark = 0x5242524c;  // "LRBR"
constexpr uint32_t kAnswerMark = 0x4142524c;   // "LRBA"

// Nothing in it but these fields: no byte of a message is without a meaning, or unset.
struct Header {
  uint32_t mark = 0;
  uint32_t call = 0;  // of an answer: 0
  uint64_t id = 0;
  int32_t pid = 0;
  int32_t cpu = 0;
  uint64_t flags = 0;
  int32_t error = 0;  // of a request: 0
  uint32_t payload_bytes = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(Header) == kBrokerHeaderBytes);

std::string Encode(Header header, absl::string_view payload) {
  payload = payload.substr(0, kMaxBrokerPayload);
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  std::string message(sizeof(header), '\0');
  std::memcpy(message.data(), &header, sizeof(header));
  message.append(payload.data(), payload.size());
  return message;
}

absl::StatusOr<Header> ParseHeader(std::span<const std::byte> message, uint32_t mark,
                                   absl::string_view* payload) {
  Header header;
  if (message.size() < sizeof(header) || message.size() > kMaxBrokerMessage) {
    return absl::InvalidArgumentError(absl::StrCat("a message of ", message.size(), " bytes"));
  }
  std::memcpy(&header, message.data(), sizeof(header));
  if (header.mark != mark || header.reserved != 0) {
    return absl::InvalidArgumentError("not a message of lbrd's");
  }
  if (header.payload_bytes != message.size() - sizeof(header)) {
    return absl::InvalidArgumentError("a payload that is not as long as it says");
  }
  *payload = {reinterpret_cast<const char*>(message.data()) + sizeof(header), header.payload_bytes};
  return header;
}

// Which fields a call has; what it has not must be zero.
struct Shape {
  bool pid = false;
  bool cpu = false;
  bool flags = false;
  bool payload = false;
};

Shape ShapeOf(BrokerCall call) {
  switch (call) {
    case BrokerCall::kOpenEvent:
      return {.pid = true, .cpu = true, .flags = true, .payload = true};
    case BrokerCall::kOpenBinary:
      return {.pid = true, .payload = true};
    case BrokerCall::kOpenPerfMap:
      return {.pid = true, .flags = true};
    case BrokerCall::kOpenMaps:
    case BrokerCall::kReadExe:
      return {.pid = true};
    case BrokerCall::kOpenCgroup:
    case BrokerCall::kNotify:
      return {.payload = true};
    case BrokerCall::kHoldRing:
    case BrokerCall::kOpenTlsFile:
      return {.flags = true};
    case BrokerCall::kOpenKernelSymbols:
    case BrokerCall::kOpenConfig:
    case BrokerCall::kReleaseRing:
      return {};
  }
  return {};
}

}  // namespace

std::string BrokerCallName(BrokerCall call) {
  constexpr const char* kNames[] = {"open-event",   "open-binary", "open-perf-map",
                                    "open-maps",    "read-exe",    "open-kernel-symbols",
                                    "open-cgroup",  "open-config", "hold-ring",
                                    "release-ring", "notify",      "open-tls-file"};
  static_assert(std::size(kNames) == kLastBrokerCall);
  const auto number = static_cast<uint32_t>(call);
  if (number == 0 || number > kLastBrokerCall) return absl::StrCat("request ", number);
  return kNames[number - 1];
}

std::string EncodeBrokerRequest(const BrokerRequest& request) {
  return Encode({.mark = kRequestMark,
                 .call = static_cast<uint32_t>(request.call),
                 .id = request.id,
                 .pid = request.pid,
                 .cpu = request.cpu,
                 .flags = request.flags},
                request.payload);
}

absl::StatusOr<BrokerRequest> ParseBrokerRequest(std::span<const std::byte> message) {
  BrokerRequest request;
  const absl::StatusOr<Header> header = ParseHeader(message, kRequestMark, &request.payload);
  if (!header.ok()) return header.status();
  if (header->call == 0 || header->call > kLastBrokerCall || header->error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("no such request: ", header->call));
  }
  request.call = static_cast<BrokerCall>(header->call);
  request.id = header->id;
  request.pid = header->pid;
  request.cpu = header->cpu;
  request.flags = header->flags;
  const Shape shape = ShapeOf(request.call);
  if ((!shape.pid && request.pid != 0) || (!shape.cpu && request.cpu != 0) ||
      (!shape.flags && request.flags != 0) || shape.payload == request.payload.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(BrokerCallName(request.call), ": fields that it has not, or a payload"));
  }
  return request;
}

std::string EncodeBrokerAnswer(const BrokerAnswer& answer) {
  return Encode({.mark = kAnswerMark, .id = answer.id, .error = answer.error}, answer.payload);
}

absl::StatusOr<BrokerAnswer> ParseBrokerAnswer(std::span<const std::byte> message) {
  BrokerAnswer answer;
  const absl::StatusOr<Header> header = ParseHeader(message, kAnswerMark, &answer.payload);
  if (!header.ok()) return header.status();
  answer.id = header->id;
  answer.error = header->error;
  return answer;
}

}  // namespace lbrd::daemon
