// What /proc says of a process, besides its name: whose it is, what it runs, and where.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "pmu/kernel.h"

namespace lbrd::daemon {

struct ProcessOrigin {
  uint64_t start_ticks = 0;  // since boot, as pmu::StartTicksOf()
  // The effective user.
  std::optional<uint32_t> uid;
  // Whose data the process's samples are: the user as whom it runs in every respect (real,
  // effective, saved). None where these differ or nothing is known; then they are root's alone.
  std::optional<uint32_t> owner;
  std::string cgroup;  // its path in the hierarchy, v2's or else perf_event's; empty: unknown
  std::string exe;     // of its executable; empty: a kernel thread's, or unknown
};

// Of a running process; nullopt: it is gone. PID 0 stands for the idle tasks, which are root's.
// About 60 us of system calls.
std::optional<ProcessOrigin> ReadProcessOrigin(pmu::Kernel& kernel, int32_t pid);

// Origins of the processes that samples come from, read as soon as may be after the first of them.
//
// A pid may come to be another process's. So origin are told only of a process that had started
// before the sample (else they are another's), and not where its pid has a new owner by now (else
// the sample may be the new one's). What is left: a pid that changed hands and was gone again in
// between; its samples count for the process that was there first.
//
// Bounds: kMaxProcesses of about 300 bytes; all are forgotten (and read again) beyond.
// Thread rules: one owner.
class ProcessOriginTable {
 public:
  static constexpr size_t kMaxProcesses = 1u << 14;

  explicit ProcessOriginTable(pmu::Kernel* kernel) : kernel_(*kernel) {}

  // A sample of the process was seen.
  void Read(int32_t pid);
  // Origins of the process whose sample was taken at `sample_ns` (CLOCK_MONOTONIC); null: nobody
  // knows.
  std::shared_ptr<const ProcessOrigin> Find(int32_t pid, uint64_t sample_ns);

 private:
  struct Known {
    uint64_t read_ns = 0;
    std::shared_ptr<const ProcessOrigin> origin;
  };
  pmu::Kernel& kernel_;
  absl::flat_hash_map<int32_t, Known> known_;
};

}  // namespace lbrd::daemon
