// perf.data, as written by `perf record`: a recording as a RecordSource.
//
// File mode (PERFILE2 with a header of offsets) and pipe mode (everything is a record), with
// PERF_RECORD_COMPRESSED and COMPRESSED2 (zstd, one stream over the whole recording that perf never
// ends) decoded as they come. Format: tools/perf/Documentation/perf.data-file-format.txt.
//
// Input is hostile: all sizes are checked against the file, memory is bounded by
// PerfDataOptions::max_pending_bytes plus a constant, and what cannot be read is refused with a
// reason that names the offset. Needs no privileges and no daemon.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pmu/record_source.h"

namespace lbrd::pmu {

struct PerfDataOptions {
  // Records waiting to be put in time order, in bytes. When full, the oldest are handed out and
  // records that turn out older than those are counted as late.
  uint64_t max_pending_bytes = uint64_t{256} << 20;
};

// The build ID of one file at the time of the recording.
struct RecordedBuildId {
  std::string path;      // "[kernel.kallsyms]", "[vdso]", or a file's path
  std::string build_id;  // lower-case hex
  bool kernel = false;
};

// What the header says about the machine and the recording. Empty: not recorded.
struct PerfDataInfo {
  std::string hostname;
  std::string os_release;
  std::string perf_version;
  std::string arch;  // as uname -m says: "x86_64", "aarch64"
  std::string command_line;
  uint32_t cpus_online = 0;
  // Depth of the LBR ("branches" capability of the recorded PMU); 0: not recorded.
  uint32_t lbr_depth = 0;
  bool pipe_mode = false;
  bool compressed = false;
  std::vector<RecordedBuildId> build_ids;
  // What a reader should be told about the recording as such, a sentence each.
  std::vector<std::string> notes;
};

// Loss, as stats() has it: PERF_RECORD_LOST counts what the rings had no room for, of any kind.
// PERF_RECORD_LOST_SAMPLES with a time is a PMU driver's, and adds to that; without one it is
// perf's final count per event, and counts again what the rings had lost, so of these two the
// larger holds. perf's count for a dummy event is lost_other.
//
// Order: records without a time (those that perf makes up for what ran before) are handed out when
// they are read, before timed ones that wait; see pending_records.h for the rest.
//
// Finish() and Interrupt() both end the source: Next() then says kEnd.
class PerfData : public RecordSource {
 public:
  // Opens `path` ("-": standard input, pipe mode only).
  // kNotFound, kPermissionDenied: the file; kInvalidArgument: not a perf.data file;
  // kUnimplemented: one that this build does not read (foreign byte order, an unknown version).
  static absl::StatusOr<std::unique_ptr<PerfData>> Open(const std::string& path,
                                                        const PerfDataOptions& options = {});
  // What is known so far: in pipe mode build IDs stand at the end, and a note may come at any time,
  // so it grows while reading. Called by the reading thread.
  virtual const PerfDataInfo& info() const = 0;
  // Bytes consumed and bytes in all (0: unknown, a pipe), for a progress bar. Any thread.
  virtual uint64_t bytes_read() const = 0;
  virtual uint64_t bytes_total() const = 0;
};

}  // namespace lbrd::pmu
