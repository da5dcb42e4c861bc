// The files that a recording's processes had mapped, as far as this machine has the very same ones.
//
// A file is used when it has the build ID that was recorded, or, where none was recorded, when it
// stands at the recorded path with the recorded inode. Anything else would give wrong names and
// wrong stacks; it is refused, and the reason shown.
//
// Looked for, in this order: the recorded path; the folder of the recording; /usr/lib/debug and
// ~/.debug by build ID. Fetched, where a server is configured: by debuginfod.
//
// Thread rules: thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "daemon/debuginfod.h"
#include "pmu/perf_data.h"
#include "unwind/file_source.h"

namespace lbrd::daemon {

class RecordingFiles : public unwind::FileSource {
 public:
  // `debuginfod` must outlive this; nullptr: nothing is fetched.
  RecordingFiles(const std::string& recording_path,
                 const std::vector<pmu::RecordedBuildId>& build_ids,
                 Debuginfod* debuginfod = nullptr);

  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t pid, const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(
      int32_t pid, const std::string& build_id) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Fetch(
      const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> FetchDebug(
      const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenPath(
      int32_t pid, const std::string& path) override;
  // perf-PID.map in the folder of the recording, or in /tmp: there only of the recording's owner or
  // root, and not begun after the recording was written, since a pid may be used again.
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenPerfMap(int32_t pid,
                                                                        std::string* path) override;

 private:
  // Empty: none was recorded.
  std::string BuildIdOf(const unwind::FileIdentity& file) const;

  std::string folder_;
  uint32_t owner_ = 0;           // of the recording
  int64_t written_seconds_ = 0;  // when it was, since the epoch
  std::string perf_cache_;       // ~/.debug, where perf keeps what it recorded
  absl::flat_hash_map<std::string, std::string> build_ids_;  // by recorded path
  Debuginfod* const debuginfod_;
};

}  // namespace lbrd::daemon
