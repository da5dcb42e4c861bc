// The real kernel. See kernel.h.
#pragma once

#include <mutex>

#include "pmu/kernel.h"

namespace lbrd::pmu {

class LinuxKernel : public Kernel {
 public:
  LinuxKernel() = default;
  LinuxKernel(const LinuxKernel&) = delete;
  LinuxKernel& operator=(const LinuxKernel&) = delete;
  ~LinuxKernel() override;

  int OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                unsigned long flags) override;
  int OpenPid(int32_t pid) override;
  int OpenSignal() override;
  void Signal(int fd) override;
  int OpenFolder(const std::string& path) override;
  void Close(int fd) override;
  uint64_t DescriptorLimit() override;
  int Control(int fd, unsigned long request, uint64_t argument) override;
  int64_t ReadCounts(int fd, std::span<uint64_t> out) override;
  void* MapRing(int fd, uint64_t data_bytes, int* error) override;
  void UnmapRing(void* ring, uint64_t data_bytes) override;
  int Poll(std::span<pollfd> fds, int timeout_ms) override;
  uint64_t Now() override;
  uint64_t PageBytes() override;
  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) override;
  absl::StatusOr<std::vector<int32_t>> ListNumbers(const std::string& folder) override;
  absl::StatusOr<std::string> ReadLink(const std::string& path) override;

 private:
  // The list of online CPUs is read several times a second as long as anything is sampled, and
  // finding it takes the kernel ten times as long as writing it: its descriptor stays open.
  absl::StatusOr<std::string> ReadOnlineCpus(uint64_t limit);

  std::once_flag online_once_;  // not absl's: ThreadSanitizer does not see through Debian's
  int online_fd_ = -1;          // or -errno
};

}  // namespace lbrd::pmu
