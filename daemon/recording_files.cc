#include "daemon/recording_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/file_bytes.h"

namespace lbrd::daemon {
namespace {

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenRegularBytes(
    const std::string& path) {
  absl::StatusOr<int> fd = OpenRegular(path);
  if (!fd.ok()) return fd.status();
  return FileBytes(*fd, path);
}

absl::string_view FolderOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? "." : path.substr(0, slash);
}

absl::string_view BaseName(absl::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

RecordingFiles::RecordingFiles(const std::string& recording_path,
                               const std::vector<pmu::RecordedBuildId>& build_ids,
                               Debuginfod* debuginfod)
    : debuginfod_(debuginfod) {
  char* absolute = realpath(std::string(FolderOf(recording_path)).c_str(), nullptr);
  if (absolute != nullptr) folder_ = absolute;
  free(absolute);
  struct stat status;
  if (stat(recording_path.c_str(), &status) == 0) {
    owner_ = status.st_uid;
    written_seconds_ = status.st_mtim.tv_sec;
  }
  if (const char* home = std::getenv("HOME")) perf_cache_ = absl::StrCat(home, "/.debug");
  for (const pmu::RecordedBuildId& file : build_ids) {
    if (!file.kernel) build_ids_[file.path] = file.build_id;
  }
}

std::string RecordingFiles::BuildIdOf(const unwind::FileIdentity& file) const {
  if (!file.build_id.empty()) return file.build_id;
  const auto recorded = build_ids_.find(file.path);
  return recorded != build_ids_.end() ? recorded->second : "";
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> RecordingFiles::Open(
    int32_t, const unwind::FileIdentity& file) {
  const std::string build_id = BuildIdOf(file);
  if (file.path == "[vdso]") {
    absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> vdso = VdsoBytes();
    if (vdso.ok() && !build_id.empty() && HasBuildId(*vdso, build_id)) return vdso;
    return absl::FailedPreconditionError("this kernel's vdso is not the recorded one");
  }
  if (!absl::StartsWith(file.path, "/")) {
    return absl::NotFoundError(absl::StrCat(file.path, " is not a file"));
  }
  if (build_id.empty()) {
    struct stat status;
    if (file.inode != 0 && stat(file.path.c_str(), &status) == 0 && status.st_ino == file.inode) {
      return OpenRegularBytes(file.path);
    }
    return absl::FailedPreconditionError(
        "no build ID was recorded for it, so no file here is sure to be the same");
  }
  const std::string candidates[] = {
      file.path,
      absl::StrCat(folder_, "/", BaseName(file.path)),
      BuildIdPath("/usr/lib/debug", build_id, ".debug"),
      BuildIdPath(perf_cache_, build_id, "/elf"),
  };
  for (const std::string& path : candidates) {
    absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> bytes = OpenRegularBytes(path);
    if (bytes.ok() && HasBuildId(*bytes, build_id)) return bytes;
  }
  return absl::NotFoundError(absl::StrCat("no file here has its build ID ", build_id));
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> RecordingFiles::OpenDebug(
    int32_t, const std::string& build_id) {
  return OpenRegularBytes(BuildIdPath("/usr/lib/debug", build_id, ".debug"));
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> RecordingFiles::Fetch(
    const unwind::FileIdentity& file) {
  const std::string build_id = BuildIdOf(file);
  if (debuginfod_ == nullptr || build_id.empty() || !absl::StartsWith(file.path, "/")) {
    return absl::UnimplementedError("it cannot be fetched");
  }
  return debuginfod_->Get(Debuginfod::Kind::kExecutable, build_id, file.path);
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> RecordingFiles::FetchDebug(
    const unwind::FileIdentity& file) {
  if (debuginfod_ == nullptr) return absl::UnimplementedError("it cannot be fetched");
  return debuginfod_->Get(Debuginfod::Kind::kDebugInfo, file.build_id, file.path);
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> RecordingFiles::OpenPath(
    int32_t, const std::string& path) {
  return OpenRegularBytes(path);
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> RecordingFiles::OpenPerfMap(
    int32_t pid, std::string* path) {
  const std::string name = absl::StrCat("/perf-", pid, ".map");
  *path = folder_ + name;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> beside = OpenRegularBytes(*path);
  if (beside.ok()) return beside;
  *path = "/tmp" + name;
  struct stat status;
  if (stat(path->c_str(), &status) != 0) return absl::NotFoundError("no perf map");
  struct statx birth;
  const bool known = statx(AT_FDCWD, path->c_str(), 0, STATX_BTIME, &birth) == 0 &&
                     (birth.stx_mask & STATX_BTIME) != 0;
  const int64_t begun = known ? birth.stx_btime.tv_sec : status.st_mtim.tv_sec;
  if ((status.st_uid != owner_ && status.st_uid != 0) || begun > written_seconds_) {
    return absl::FailedPreconditionError(absl::StrCat(*path, " is not of this recording"));
  }
  return OpenRegularBytes(*path);
}

}  // namespace lbrd::daemon
