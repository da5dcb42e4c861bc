// The files that a recording's processes had mapped, as far as this machine has the very same ones.
//
// A file is used when it has the build ID that was recorded, or, where none was recorded, when it
// stands at the recorded path with the recorded inode. Anything else would give wrong names and
// wrong stacks; it is refused, and the reason shown.
//
// Looked for, in this order: the recorded path; the folder of the recording; /usr/lib/debug and
// ~/.debug by build ID.
//
// Thread rules: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "pmu/perf_data.h"
#include "unwind/file_source.h"

namespace lbrd::daemon {

class RecordingFiles : public unwind::FileSource {
 public:
  RecordingFiles(const std::string& recording_path,
                 const std::vector<pmu::RecordedBuildId>& build_ids);

  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t pid, const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(
      int32_t pid, const std::string& build_id) override;

 private:
  std::string folder_;
  std::string perf_cache_;  // ~/.debug, where perf keeps what it recorded
  absl::flat_hash_map<std::string, std::string> build_ids_;  // by recorded path
};

}  // namespace lbrd::daemon
