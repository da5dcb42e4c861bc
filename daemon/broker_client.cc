#include "daemon/broker_client.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/descriptor_message.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

absl::StatusOr<int> Descriptor(const BrokerClient::Reply& reply, const std::string& path) {
  if (reply.error == 0 && reply.fd >= 0) return reply.fd;
  switch (reply.error) {
    case ESRCH:
      return absl::UnavailableError(absl::StrCat("the process of ", path, " is gone"));
    case ENOEXEC:
      return absl::FailedPreconditionError(
          absl::StrCat(path, " is not a program or library, nor a regular file of its process's"));
    case 0:
      // The answer had no room for it: this process has as many open as it may.
      return absl::ResourceExhaustedError(absl::StrCat("no descriptor is left for ", path));
    default:
      return absl::ErrnoToStatus(reply.error, absl::StrCat("cannot open ", path));
  }
}

}  // namespace

BrokerClient::~BrokerClient() { close(channel_); }

BrokerClient::Reply BrokerClient::Ask(BrokerRequest request, int fd) {
  if (request.payload.size() > kMaxBrokerPayload) return {.error = ENAMETOOLONG};
  std::array<std::byte, kMaxBrokerMessage> message;
  Reply reply;
  absl::MutexLock lock(&mutex_);
  request.id = next_id_++;
  ssize_t bytes = -1;
  if (SendMessage(channel_, EncodeBrokerRequest(request), fd)) {
    bytes = ReceiveMessage(channel_, message, &reply.fd);
  }
  if (bytes <= 0) {
    Log(LogLevel::kError, "the broker is gone: ending");
    _exit(1);
  }
  const absl::StatusOr<BrokerAnswer> answer =
      ParseBrokerAnswer(std::span(message).first(static_cast<size_t>(bytes)));
  if (!answer.ok() || (answer->id != request.id && answer->error == 0)) {
    Log(LogLevel::kError, "the broker's answer makes no sense: ending");
    _exit(1);
  }
  reply.error = answer->error;
  reply.payload = std::string(answer->payload);
  return reply;
}

absl::StatusOr<int> BrokerFileOpener::OpenBinary(int32_t pid, const std::string& path) {
  return Descriptor(broker_.Ask({.call = BrokerCall::kOpenBinary, .pid = pid, .payload = path}),
                    path);
}

absl::StatusOr<int> BrokerFileOpener::OpenPerfMap(int32_t pid, int32_t number) {
  return Descriptor(
      broker_.Ask(
          {.call = BrokerCall::kOpenPerfMap, .pid = pid, .flags = static_cast<uint64_t>(number)}),
      PerfMapPath(number));
}

}  // namespace lbrd::daemon
