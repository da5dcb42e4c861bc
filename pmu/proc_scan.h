// The processes that already ran when a session began, from /proc, told as the records that the
// kernel would have written for them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pmu/kernel.h"
#include "pmu/record_writer.h"

namespace lbrd::pmu {

// One line of /proc/PID/maps.
struct ProcMapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  bool executable = false;
  uint32_t major = 0;
  uint32_t minor = 0;
  uint64_t inode = 0;
  absl::string_view path;  // empty: anonymous
};
// Parses one line without its end-of-line; false: it is not one.
bool ParseProcMapping(absl::string_view line, ProcMapping* out);

// The process of a thread; the thread itself if it is gone.
int32_t GroupLeaderOf(Kernel& kernel, int32_t tid);

// When the thread started, in clock ticks (of 10 ms) since boot, field 22 of its stat: what tells
// it from a later one with its tid. nullopt: it is gone.
std::optional<uint64_t> StartTicksOf(Kernel& kernel, int32_t pid, int32_t tid);

// Start times of /proc on the clock of the records, which stands still while the machine is
// suspended: up to 20 ms early, never late.
class StartClock {
 public:
  explicit StartClock(Kernel& kernel);
  uint64_t ToNs(uint64_t ticks) const;

 private:
  uint64_t suspended_ns_ = 0;
};

// A thread that ran already.
struct RunningThread {
  int32_t pid = -1;
  int32_t tid = -1;
  uint64_t start_ticks = 0;
  std::string comm;
};

// Appends the names of the process's threads and its executable mappings, and to `threads`, unless
// it is nullptr, the threads. Call it after the events were enabled: what changes meanwhile comes
// as a record as well, and those are applied later. kNotFound: the process left.
absl::Status ScanProcess(Kernel& kernel, int32_t pid, RecordWriter* out,
                         std::vector<RunningThread>* threads = nullptr);
// The same of every process that runs. An error: there is no /proc to list them.
absl::Status ScanAllProcesses(Kernel& kernel, RecordWriter* out,
                              std::vector<RunningThread>* threads = nullptr);

}  // namespace lbrd::pmu
