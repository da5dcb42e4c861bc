// The processes that already ran when a session began, from /proc, told as the records that the
// kernel would have written for them.
#pragma once

#include <cstdint>

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

// Appends the names of the process's threads and its executable mappings. Call it after the events
// were enabled: what changes meanwhile comes as a record as well, and those are applied later.
// kNotFound: the process left.
absl::Status ScanProcess(Kernel& kernel, int32_t pid, RecordWriter* out);

}  // namespace lbrd::pmu
