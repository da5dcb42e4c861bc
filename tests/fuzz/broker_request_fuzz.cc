// What an engine that somebody has taken over can send its broker.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "daemon/broker_policy.h"
#include "daemon/broker_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lbrd::daemon;
  const absl::StatusOr<BrokerRequest> request =
      ParseBrokerRequest(std::as_bytes(std::span(data, size)));
  if (!request.ok()) return 0;
  // It accepts exactly what the encoder writes.
  const std::string again = EncodeBrokerRequest(*request);
  if (absl::string_view(again) != absl::string_view(reinterpret_cast<const char*>(data), size)) {
    std::abort();
  }
  perf_event_attr attr;
  const bool granted = CheckOpenEvent(*request, false, {.dynamic = {8}}, &attr).ok();
  // The broker's own events, and those that change code, are never granted.
  if (granted && (request->pid == 0 || attr.type == 6 || attr.sigtrap || attr.pinned)) std::abort();
  if (CheckCgroupPath(request->payload).ok() &&
      (request->payload == ".." || request->payload.find("/../") != absl::string_view::npos)) {
    std::abort();
  }
  CheckAbsolutePath(request->payload).IgnoreError();
  CheckNotification(request->payload).IgnoreError();
  IsBinary(std::as_bytes(std::span(request->payload.data(), request->payload.size())));
  return 0;
}
