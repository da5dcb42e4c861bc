// The only door to the kernel: what pmu/ asks of a running system, and nothing more.
//
// LinuxKernel is the real one. Tests put a fake behind the same door, so everything above it (event
// set-up, rings, ordering) runs unchanged on made-up machines. Results are as the system calls give
// them: a value, or -errno, because callers decide by errno what to try next.
//
// Thread rules: implementations are thread-safe.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pmu/abi.h"

namespace lbrd::pmu {

class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  // perf_event_open(2) with PERF_FLAG_… flags. Descriptors are close-on-exec.
  virtual int OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                        unsigned long flags = 0) = 0;
  // A descriptor that polls readable when the process is gone. pidfd_open(2).
  virtual int OpenPid(int32_t pid) = 0;
  // A descriptor that polls readable once Signal() was called on it. eventfd(2).
  virtual int OpenSignal() = 0;
  virtual void Signal(int fd) = 0;
  // A folder's descriptor: a cgroup's stands for it where events are opened.
  virtual int OpenFolder(const std::string& path) = 0;
  virtual void Close(int fd) = 0;
  // How many descriptors this process may have open.
  virtual uint64_t DescriptorLimit() = 0;

  // ioctl(2) with a PERF_EVENT_IOC_… request: 0 or -errno.
  virtual int Control(int fd, unsigned long request, uint64_t argument) = 0;
  // read(2) of an event's counts, in the layout of its read_format: bytes or -errno.
  virtual int64_t ReadCounts(int fd, std::span<uint64_t> out) = 0;

  // Maps an event's ring: one control page and `data_bytes` (a power of two of pages) of records.
  // nullptr: errno is in *error. Unmapped by UnmapRing with the same size.
  virtual void* MapRing(int fd, uint64_t data_bytes, int* error) = 0;
  virtual void UnmapRing(void* ring, uint64_t data_bytes) = 0;

  // poll(2): number of ready descriptors, 0 on time-out, or -errno.
  virtual int Poll(std::span<pollfd> fds, int timeout_ms) = 0;

  // CLOCK_MONOTONIC in ns: the clock of every record.
  virtual uint64_t Now() = 0;
  virtual uint64_t PageBytes() = 0;

  // A whole file of /proc or /sys, at most `limit` bytes (kResourceExhausted beyond).
  virtual absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) = 0;
  // The entries of a folder that are numbers, ascending: processes, threads.
  virtual absl::StatusOr<std::vector<int32_t>> ListNumbers(const std::string& folder) = 0;
  // Where a symbolic link of /proc points to. readlink(2).
  virtual absl::StatusOr<std::string> ReadLink(const std::string& path) = 0;

  // Whether neither RLIMIT_MEMLOCK nor kernel.perf_event_mlock_kb counts for rings, because
  // somebody whom they do not bind locks them in memory first.
  virtual bool rings_unbound() const { return false; }
};

}  // namespace lbrd::pmu
