#include "daemon/broker.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/descriptor_message.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

constexpr char kCgroups[] = "/sys/fs/cgroup";

Broker::Answered Failed(int error, absl::string_view what) {
  return {.status = absl::ErrnoToStatus(error, what), .error = error};
}

Broker::Answered Opened(int fd, absl::string_view what) {
  if (fd < 0) return Failed(errno, absl::StrCat("cannot open ", what));
  return {.status = absl::OkStatus(), .fd = fd};
}

Broker::Answered OpenToRead(const std::string& path) {
  return Opened(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), path);
}

// The kernel made these files.
EventTypes ReadEventTypes() {
  EventTypes types;
  std::error_code error;
  for (const auto& pmu :
       std::filesystem::directory_iterator("/sys/bus/event_source/devices", error)) {
    uint32_t type = 0;
    if (IsHarmlessPmu(pmu.path().filename().string()) &&
        std::ifstream(pmu.path() / "type") >> type) {
      types.dynamic.insert(type);
    }
  }
  return types;
}

// The effective user; root where the process may not be looked into. -1: it is gone.
int64_t OwnerOf(int32_t pid) {
  struct stat status;
  if (stat(absl::StrCat("/proc/", pid).c_str(), &status) != 0) return -1;
  return status.st_uid;
}

}  // namespace

int ErrnoOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return EINVAL;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kUnavailable:
      return ESRCH;
    case absl::StatusCode::kFailedPrecondition:
      return ENOEXEC;
    case absl::StatusCode::kResourceExhausted:
      return EMFILE;
    default:
      return EACCES;
  }
}

Broker::Broker(Options options)
    : options_(std::move(options)), types_(ReadEventTypes()), budget_at_(absl::Now()) {}

Broker::~Broker() { Forget(); }

void Broker::Forget() {
  if (ring_ != nullptr) munmap(std::exchange(ring_, nullptr), ring_bytes_);
}

bool Broker::Serve(int channel) {
  // One byte more than fits shows that a message is too long.
  std::array<std::byte, kMaxBrokerMessage + 1> message;
  int descriptor = -1;
  const ssize_t bytes = ReceiveMessage(channel, message, &descriptor);
  if (bytes <= 0) return bytes < 0 && (errno == EINTR || errno == EAGAIN);
  SlowDown();
  BrokerAnswer answer;
  Answered answered =
      Answer(std::span(message).first(static_cast<size_t>(bytes)), descriptor, &answer.id);
  if (descriptor >= 0) close(descriptor);
  answer.error = answered.error != 0 ? answered.error : ErrnoOf(answered.status);
  answer.payload = answered.payload;
  const bool sent = SendMessage(channel, EncodeBrokerAnswer(answer), answered.fd);
  if (answered.fd >= 0) close(answered.fd);
  return sent;
}

Broker::Answered Broker::Answer(std::span<const std::byte> message, int descriptor, uint64_t* id) {
  *id = 0;
  const absl::StatusOr<BrokerRequest> request = ParseBrokerRequest(message);
  if (!request.ok()) {
    LogRefusal(request.status());
    return {.status = request.status()};
  }
  *id = request->id;
  return Do(*request, descriptor);
}

Broker::Answered Broker::Do(const BrokerRequest& request, int descriptor) {
  const auto refuse = [&](const absl::Status& why) {
    LogRefusal(
        absl::Status(why.code(), absl::StrCat(BrokerCallName(request.call), ": ", why.message())));
    return Answered{.status = why};
  };
  const bool takes_descriptor =
      request.call == BrokerCall::kOpenEvent || request.call == BrokerCall::kHoldRing;
  if (descriptor >= 0 && !takes_descriptor) {
    return refuse(absl::InvalidArgumentError("a descriptor that it has no use for"));
  }
  switch (request.call) {
    case BrokerCall::kOpenEvent: {
      perf_event_attr attr;
      if (absl::Status may = CheckOpenEvent(request, descriptor >= 0, types_, &attr); !may.ok()) {
        return refuse(may);
      }
      return OpenEvent(request, descriptor);
    }
    case BrokerCall::kOpenBinary: {
      absl::Status may = CheckPid(request.pid, /*or_none=*/true);
      if (may.ok()) may = CheckAbsolutePath(request.payload);
      return may.ok() ? OpenBinary(request) : refuse(may);
    }
    case BrokerCall::kOpenPerfMap: {
      absl::Status may = CheckPid(request.pid, /*or_none=*/true);
      if (may.ok() && request.flags > static_cast<uint64_t>(kMaxPid)) {
        may = absl::InvalidArgumentError("no process can have that number");
      }
      return may.ok() ? OpenPerfMap(request) : refuse(may);
    }
    case BrokerCall::kOpenMaps:
    case BrokerCall::kReadExe: {
      if (absl::Status may = CheckPid(request.pid, /*or_none=*/false); !may.ok()) {
        return refuse(may);
      }
      const std::string folder = absl::StrCat("/proc/", request.pid);
      if (request.call == BrokerCall::kOpenMaps) return OpenToRead(folder + "/maps");
      char path[PATH_MAX];
      const ssize_t length = readlink((folder + "/exe").c_str(), path, sizeof(path));
      if (length < 0) return Failed(errno, folder);
      return {
          .status = absl::OkStatus(),
          .payload = std::string(path, std::min(static_cast<size_t>(length), kMaxBrokerPayload))};
    }
    case BrokerCall::kOpenKernelSymbols:
      return OpenToRead("/proc/kallsyms");
    case BrokerCall::kOpenCgroup: {
      if (absl::Status may = CheckCgroupPath(request.payload); !may.ok()) return refuse(may);
      return OpenCgroup(request);
    }
    case BrokerCall::kOpenConfig:
      if (options_.config_path.empty()) return Failed(ENOENT, "no configuration file");
      return OpenToRead(options_.config_path);
    case BrokerCall::kOpenTlsFile: {
      if (request.flags >= kTlsFiles) {
        return refuse(absl::InvalidArgumentError("there is no such file"));
      }
      const std::string& path = options_.tls_files[request.flags];
      return path.empty() ? Failed(ENOENT, "not set") : OpenToRead(path);
    }
    case BrokerCall::kHoldRing: {
      absl::Status may =
          CheckRingBytes(request.flags, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
      if (may.ok() && descriptor < 0) may = absl::InvalidArgumentError("no event");
      return may.ok() ? HoldRing(request, descriptor) : refuse(may);
    }
    case BrokerCall::kReleaseRing:
      Forget();
      return {.status = absl::OkStatus()};
    case BrokerCall::kNotify:
      if (absl::Status may = CheckNotification(request.payload); !may.ok()) return refuse(may);
      options_.notify(request.payload);
      return {.status = absl::OkStatus()};
  }
  return refuse(absl::InvalidArgumentError("no such request"));
}

Broker::Answered Broker::OpenEvent(const BrokerRequest& request, int descriptor) {
  // As it came, since a larger attr than these headers know is refused before.
  perf_event_attr attr;
  std::memcpy(&attr, request.payload.data(), sizeof(attr));
  const int32_t pid = request.flags == PERF_FLAG_PID_CGROUP ? descriptor : request.pid;
  const long fd = syscall(SYS_perf_event_open, &attr, pid, request.cpu, -1,
                          request.flags | PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) {
    // What to try next is the engine's to decide, by exactly this errno.
    return Failed(errno, "perf_event_open");
  }
  return {.status = absl::OkStatus(), .fd = static_cast<int>(fd)};
}

Broker::Answered Broker::OpenBinary(const BrokerRequest& request) {
  const absl::StatusOr<int> fd = files_.OpenBinary(request.pid, std::string(request.payload));
  if (!fd.ok()) return {.status = fd.status()};
  std::array<std::byte, 4> start;
  const ssize_t read = pread(*fd, start.data(), start.size(), 0);
  if (read == static_cast<ssize_t>(start.size()) && IsBinary(start)) {
    return {.status = absl::OkStatus(), .fd = *fd};
  }
  close(*fd);
  // Processes map all kinds of files: nothing to make a noise about.
  return {.status = absl::FailedPreconditionError("neither an ELF nor a jitdump file")};
}

Broker::Answered Broker::OpenPerfMap(const BrokerRequest& request) {
  const absl::StatusOr<int> fd =
      files_.OpenPerfMap(request.pid, static_cast<int32_t>(request.flags));
  if (!fd.ok()) return {.status = fd.status()};
  struct stat status;
  const int64_t user = request.pid < 0 ? -1 : OwnerOf(request.pid);
  const bool known = fstat(*fd, &status) == 0 && status.st_nlink == 1;
  if (known && (request.pid < 0 || user >= 0) && IsPerfMap(status.st_uid, status.st_mode, user)) {
    return {.status = absl::OkStatus(), .fd = *fd};
  }
  close(*fd);
  const absl::Status why = absl::PermissionDeniedError("a perf map that is not its process's own");
  LogRefusal(why);
  return {.status = why};
}

Broker::Answered Broker::OpenCgroup(const BrokerRequest& request) {
  const int root = open(kCgroups, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return Failed(errno, kCgroups);
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  const std::string path(request.payload);
  const long fd = syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
  const int error = errno;
  close(root);
  return fd < 0 ? Failed(error, path)
                : Answered{.status = absl::OkStatus(), .fd = static_cast<int>(fd)};
}

Broker::Answered Broker::HoldRing(const BrokerRequest& request, int descriptor) {
  Forget();
  char kind[64];
  const ssize_t length =
      readlink(absl::StrCat("/proc/self/fd/", descriptor).c_str(), kind, sizeof(kind));
  if (length < 0 ||
      absl::string_view(kind, static_cast<size_t>(length)) != "anon_inode:[perf_event]") {
    const absl::Status why = absl::PermissionDeniedError("hold-ring: not an event");
    LogRefusal(why);
    return {.status = why};
  }
  void* ring = mmap(nullptr, request.flags, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (ring == MAP_FAILED) return Failed(errno, "cannot lock a ring");
  ring_ = ring;
  ring_bytes_ = request.flags;
  return {.status = absl::OkStatus()};
}

void Broker::SlowDown() {
  const absl::Time now = absl::Now();
  budget_ = std::min(kBurst, budget_ + kRequestsPerSecond *
                                           std::max(0.0, absl::ToDoubleSeconds(now - budget_at_)));
  budget_at_ = now;
  budget_ -= 1;
  if (budget_ < 0) absl::SleepFor(absl::Milliseconds(1));
}

void Broker::LogRefusal(const absl::Status& why) {
  const absl::Time now = absl::Now();
  if (now - logged_at_ > absl::Seconds(1)) {
    logged_at_ = now;
    logged_ = 0;
  }
  if (logged_++ < kMaxRefusalsLogged) {
    Log(LogLevel::kWarning, absl::StrCat("broker: refused: ", why.message()));
  }
}

}  // namespace lbrd::daemon
