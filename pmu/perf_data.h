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

class PerfData : public RecordSource {
 public:
  // Opens `path` ("-": standard input, pipe mode only).
  // kNotFound, kPermissionDenied: the file; kInvalidArgument: not a perf.data file;
  // kUnimplemented: one that this build does not read (foreign byte order, an unknown version).
  static absl::StatusOr<std::unique_ptr<PerfData>> Open(const std::string& path,
                                                        const PerfDataOptions& options = {});
  // What is known so far: in pipe mode features arrive as records, so it grows while reading.
  virtual const PerfDataInfo& info() const = 0;
  // Bytes consumed and bytes in all (0: unknown, a pipe), for a progress bar. Any thread.
  virtual uint64_t bytes_read() const = 0;
  virtual uint64_t bytes_total() const = 0;
};

}  // namespace lbrd::pmu
