// The files that live processes have mapped, through each process's own mount namespace.
//
// Thread rules: thread-safe.
#pragma once

#include "daemon/file_opener.h"
#include "unwind/file_source.h"

namespace lbrd::daemon {

class TargetFiles : public unwind::FileSource {
 public:
  // With our own rights, or those of `opener`, which it borrows.
  TargetFiles() : opener_(own_) {}
  explicit TargetFiles(FileOpener* opener) : opener_(*opener) {}
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t pid, const unwind::FileIdentity& file) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(
      int32_t pid, const std::string& build_id) override;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenPath(
      int32_t pid, const std::string& path) override;
  // /tmp/perf-PID.map below the process's root, PID as its own namespace counts; or, when it is
  // gone, below ours. Not one that another user wrote, or that is older than the process: it may be
  // that of a process that had the pid before. Of a process that is gone no start is known: then
  // the map must have been written in the last kFreshSeconds.
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenPerfMap(int32_t pid,
                                                                        std::string* path) override;
  static constexpr int kFreshSeconds = 60;

 private:
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenBelow(int32_t pid,
                                                                      const std::string& path,
                                                                      uint64_t* inode);

  OwnFileOpener own_;
  FileOpener& opener_;
};

}  // namespace lbrd::daemon
