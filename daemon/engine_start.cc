#include "daemon/engine_start.h"

#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/descriptor_message.h"

namespace lbrd::daemon {
namespace {

constexpr int kDescriptors = 5;
constexpr uint32_t kMark = 0x5342524c;  // "LRBS"

struct Message {
  uint32_t mark = kMark;
  uint32_t daemon_uid = 0;
  int64_t admin_group = -1;
  uint32_t restarts = 0;
  int32_t last_end = 0;
  uint8_t sockets_given = 0;
  uint8_t hold_rings = 0;
  uint8_t has[kDescriptors] = {};  // which descriptors follow, a message each
  uint8_t padding[1] = {};
};

}  // namespace

bool SendEngineStart(int channel, const EngineStart& start) {
  Message message{.daemon_uid = start.daemon_uid,
                  .admin_group = start.admin_group,
                  .restarts = start.restarts,
                  .last_end = start.last_end,
                  .sockets_given = start.sockets_given,
                  .hold_rings = start.hold_rings};
  const int descriptors[kDescriptors] = {start.sockets.requests, start.sockets.descriptors,
                                         start.sockets.metrics, start.sockets.tls, start.journal};
  for (int i = 0; i < kDescriptors; ++i) message.has[i] = descriptors[i] >= 0;
  if (!SendMessage(channel, {reinterpret_cast<const char*>(&message), sizeof(message)}, -1)) {
    return false;
  }
  for (const int fd : descriptors) {
    if (fd >= 0 && !SendMessage(channel, "s", fd)) return false;
  }
  return true;
}

absl::StatusOr<EngineStart> ReceiveEngineStart(int channel) {
  Message message;
  int fd = -1;
  const ssize_t bytes =
      ReceiveMessage(channel, std::as_writable_bytes(std::span(&message, 1)), &fd);
  if (bytes != static_cast<ssize_t>(sizeof(message)) || message.mark != kMark) {
    return absl::InvalidArgumentError(
        "this is not lbrd's broker: an engine is started by it alone");
  }
  EngineStart start{.daemon_uid = message.daemon_uid,
                    .admin_group = message.admin_group,
                    .sockets_given = message.sockets_given != 0,
                    .hold_rings = message.hold_rings != 0,
                    .restarts = message.restarts,
                    .last_end = message.last_end};
  int* descriptors[kDescriptors] = {&start.sockets.requests, &start.sockets.descriptors,
                                    &start.sockets.metrics, &start.sockets.tls, &start.journal};
  for (int i = 0; i < kDescriptors; ++i) {
    std::byte byte;
    if (message.has[i] == 0) continue;
    if (ReceiveMessage(channel, std::span(&byte, 1), descriptors[i]) != 1 || *descriptors[i] < 0) {
      return absl::ErrnoToStatus(errno, "cannot take the broker's descriptors");
    }
  }
  return start;
}

std::string DescribeEnd(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const char* name = sigabbrev_np(WTERMSIG(wait_status));
    return absl::StrCat("signal ", name == nullptr ? "" : "SIG",
                        name == nullptr ? absl::StrCat(WTERMSIG(wait_status)) : name);
  }
  return absl::StrCat("exit code ", WEXITSTATUS(wait_status));
}

}  // namespace lbrd::daemon
