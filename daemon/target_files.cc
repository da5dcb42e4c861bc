#include "daemon/target_files.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/file_bytes.h"
#include "daemon/process_facts.h"

namespace lbrd::daemon {
namespace {

// Only what is sure to be the mapped file is taken: the same build ID, or the same inode. (Not the
// device: on overlay and btrfs file systems, mappings and stat(2) name different ones.)
bool SameFile(const unwind::FileIdentity& file,
              const std::shared_ptr<const unwind::ByteSource>& bytes, uint64_t inode) {
  if (!file.build_id.empty()) return HasBuildId(bytes, file.build_id);
  return file.inode == 0 || file.inode == inode;
}

}  // namespace

// A file below a process's root, or below ours when the process is gone (pid < 0).
absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> TargetFiles::OpenBelow(
    int32_t pid, const std::string& path, uint64_t* inode) {
  const absl::StatusOr<int> fd = opener_.OpenBinary(pid, path);
  if (!fd.ok()) return fd.status();
  struct stat status;
  *inode = fstat(*fd, &status) == 0 ? status.st_ino : 0;
  return FileBytes(*fd, path);
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> TargetFiles::Open(
    int32_t pid, const unwind::FileIdentity& file) {
  if (file.path == "[vdso]") return VdsoBytes();
  if (!absl::StartsWith(file.path, "/")) {
    return absl::NotFoundError(absl::StrCat(file.path, " is not a file"));
  }
  absl::Status first_error;
  for (const int32_t root_of : {pid, -1}) {
    uint64_t inode = 0;
    absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> bytes =
        OpenBelow(root_of, file.path, &inode);
    absl::Status error = bytes.status();
    if (bytes.ok()) {
      if (SameFile(file, *bytes, inode)) return bytes;
      error = absl::FailedPreconditionError("another file has taken its place since it was mapped");
    }
    if (first_error.ok()) first_error = error;
  }
  return first_error;
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> TargetFiles::OpenDebug(
    int32_t pid, const std::string& build_id) {
  return OpenPath(pid, BuildIdPath("/usr/lib/debug", build_id, ".debug"));
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> TargetFiles::OpenPath(
    int32_t pid, const std::string& path) {
  for (const int32_t root_of : {pid, -1}) {
    uint64_t inode = 0;
    absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> bytes =
        OpenBelow(root_of, path, &inode);
    if (bytes.ok()) return bytes;
  }
  return absl::NotFoundError(absl::StrCat("there is no ", path));
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> TargetFiles::OpenPerfMap(
    int32_t pid, std::string* path) {
  const std::optional<ProcessFacts> process = ReadProcessFacts(pid);
  const int32_t number = process.has_value() ? process->namespaced_pid : pid;
  *path = PerfMapPath(number);
  absl::StatusOr<int> fd = opener_.OpenPerfMap(pid, number);
  // It is gone, or a zombie. If it was in a namespace of its own, its files went with it.
  if (absl::IsUnavailable(fd.status())) {
    fd = number == pid ? opener_.OpenPerfMap(-1, number)
                       : absl::NotFoundError(fd.status().message());
  }
  if (!fd.ok()) return fd.status();
  struct stat status;
  const bool known = fstat(*fd, &status) == 0;
  // File systems keep times of a coarser clock.
  constexpr int64_t kSlackSeconds = 2;
  const int64_t oldest =
      process.has_value() ? process->start_seconds - kSlackSeconds : time(nullptr) - kFreshSeconds;
  const bool own = !process.has_value() || status.st_uid == process->uid || status.st_uid == 0;
  if (!known || !own || status.st_mtim.tv_sec < oldest) {
    close(*fd);
    return absl::FailedPreconditionError(absl::StrCat(*path, " is not of this process"));
  }
  return FileBytes(*fd, *path);
}

}  // namespace lbrd::daemon
