#include "daemon/broker_kernel.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "pmu/read_all.h"

namespace lbrd::daemon {
namespace {

constexpr absl::string_view kCgroups = "/sys/fs/cgroup/";

// Of "/proc/PID/maps", with `name` "maps", of another process; 0: it is another file. Our own we
// may read.
int32_t OtherProcessOf(absl::string_view path, absl::string_view name) {
  int32_t pid = 0;
  if (!absl::ConsumePrefix(&path, "/proc/") || !absl::ConsumeSuffix(&path, name) ||
      !absl::ConsumeSuffix(&path, "/") || !absl::SimpleAtoi(path, &pid) || pid == getpid()) {
    return 0;
  }
  return pid;
}

}  // namespace

int BrokerKernel::OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                            unsigned long flags) {
  BrokerRequest request{.call = BrokerCall::kOpenEvent,
                        .pid = pid == 0 ? gettid() : pid,
                        .cpu = cpu,
                        .flags = flags,
                        .payload = {reinterpret_cast<const char*>(&attr), sizeof(attr)}};
  int cgroup = -1;
  if ((flags & PERF_FLAG_PID_CGROUP) != 0) {
    cgroup = pid;
    request.pid = -1;
  }
  const BrokerClient::Reply reply = broker_.Ask(request, cgroup);
  if (reply.error != 0) return -reply.error;
  // Answered without one: this process could take no more descriptors.
  return reply.fd < 0 ? -EMFILE : reply.fd;
}

int BrokerKernel::OpenFolder(const std::string& path) {
  absl::string_view below = path;
  if (!absl::ConsumePrefix(&below, kCgroups) || below.empty()) return LinuxKernel::OpenFolder(path);
  const BrokerClient::Reply reply =
      broker_.Ask({.call = BrokerCall::kOpenCgroup, .payload = below});
  if (reply.error != 0) return -reply.error;
  return reply.fd < 0 ? -EMFILE : reply.fd;
}

void* BrokerKernel::MapRing(int fd, uint64_t data_bytes, int* error) {
  if (!hold_rings_) return LinuxKernel::MapRing(fd, data_bytes, error);
  absl::MutexLock lock(&ring_mutex_);
  const BrokerClient::Reply held =
      broker_.Ask({.call = BrokerCall::kHoldRing, .flags = PageBytes() + data_bytes}, fd);
  if (held.error != 0) {
    *error = held.error;
    return nullptr;
  }
  // The same pages: what is locked already is not counted again.
  void* ring = LinuxKernel::MapRing(fd, data_bytes, error);
  broker_.Ask({.call = BrokerCall::kReleaseRing});
  return ring;
}

absl::StatusOr<std::string> BrokerKernel::ReadFile(const std::string& path, uint64_t limit) {
  BrokerRequest request;
  if (const int32_t pid = OtherProcessOf(path, "maps"); pid != 0) {
    request = {.call = BrokerCall::kOpenMaps, .pid = pid};
  } else if (path == "/proc/kallsyms") {
    request = {.call = BrokerCall::kOpenKernelSymbols};
  } else {
    return LinuxKernel::ReadFile(path, limit);
  }
  const BrokerClient::Reply reply = broker_.Ask(request);
  if (reply.error != 0 || reply.fd < 0) {
    return absl::ErrnoToStatus(reply.error != 0 ? reply.error : EMFILE,
                               absl::StrCat("cannot open ", path));
  }
  return pmu::ReadAll(reply.fd, path, limit);
}

absl::StatusOr<std::string> BrokerKernel::ReadLink(const std::string& path) {
  const int32_t pid = OtherProcessOf(path, "exe");
  if (pid == 0) return LinuxKernel::ReadLink(path);
  BrokerClient::Reply reply = broker_.Ask({.call = BrokerCall::kReadExe, .pid = pid});
  if (reply.error != 0) {
    return absl::ErrnoToStatus(reply.error, absl::StrCat("cannot read ", path));
  }
  return std::move(reply.payload);
}

}  // namespace lbrd::daemon
