#include "pmu/linux_kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pmu/read_all.h"

namespace lbrd::pmu {
namespace {

constexpr char kOnlineCpus[] = "/sys/devices/system/cpu/online";

}  // namespace

LinuxKernel::~LinuxKernel() {
  if (online_fd_ >= 0) close(online_fd_);
}

int LinuxKernel::OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                           unsigned long flags) {
  const long fd = syscall(SYS_perf_event_open, &attr, pid, cpu, -1, flags | PERF_FLAG_FD_CLOEXEC);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

int LinuxKernel::OpenPid(int32_t pid) {
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

int LinuxKernel::OpenSignal() {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

void LinuxKernel::Signal(int fd) {
  const uint64_t one = 1;
  // Can only fail when the counter is full, and then the descriptor is readable already.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof(one));
}

int LinuxKernel::OpenFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

uint64_t LinuxKernel::DescriptorLimit() {
  rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

void LinuxKernel::Close(int fd) { close(fd); }

int LinuxKernel::Control(int fd, unsigned long request, uint64_t argument) {
  return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

int64_t LinuxKernel::ReadCounts(int fd, std::span<uint64_t> out) {
  const ssize_t bytes = read(fd, out.data(), out.size_bytes());
  return bytes < 0 ? -errno : bytes;
}

void* LinuxKernel::MapRing(int fd, uint64_t data_bytes, int* error) {
  void* ring = mmap(nullptr, PageBytes() + data_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (ring == MAP_FAILED) {
    *error = errno;
    return nullptr;
  }
  return ring;
}

void LinuxKernel::UnmapRing(void* ring, uint64_t data_bytes) {
  munmap(ring, PageBytes() + data_bytes);
}

int LinuxKernel::Poll(std::span<pollfd> fds, int timeout_ms) {
  const int ready = poll(fds.data(), fds.size(), timeout_ms);
  return ready < 0 ? -errno : ready;
}

uint64_t LinuxKernel::Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t LinuxKernel::PageBytes() {
  static const uint64_t bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

absl::StatusOr<std::string> LinuxKernel::ReadFile(const std::string& path, uint64_t limit) {
  if (path == kOnlineCpus) return ReadOnlineCpus(limit);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  return ReadAll(fd, path, limit);
}

absl::StatusOr<std::string> LinuxKernel::ReadOnlineCpus(uint64_t limit) {
  std::call_once(online_once_, [this] {
    online_fd_ = open(kOnlineCpus, O_RDONLY | O_CLOEXEC);
    if (online_fd_ < 0) online_fd_ = -errno;
  });
  if (online_fd_ < 0) {
    return absl::ErrnoToStatus(-online_fd_, absl::StrCat("cannot open ", kOnlineCpus));
  }
  // A page at most: what sysfs has, it has at once.
  char text[4096];
  const ssize_t bytes = pread(online_fd_, text, std::min<uint64_t>(sizeof(text), limit), 0);
  if (bytes < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", kOnlineCpus));
  return std::string(text, static_cast<size_t>(bytes));
}

absl::StatusOr<std::vector<int32_t>> LinuxKernel::ListNumbers(const std::string& folder) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder.c_str()), closedir);
  if (dir == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot list ", folder));
  std::vector<int32_t> numbers;
  while (const dirent* entry = readdir(dir.get())) {
    int32_t number;
    if (absl::SimpleAtoi(entry->d_name, &number)) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

absl::StatusOr<std::string> LinuxKernel::ReadLink(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof(target));
  if (length < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  return std::string(target, static_cast<size_t>(length));
}

}  // namespace lbrd::pmu
