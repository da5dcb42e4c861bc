#include "daemon/file_opener.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/file_bytes.h"

namespace lbrd::daemon {
namespace {

absl::StatusOr<int> OpenBelow(int32_t pid, const std::string& path, uint64_t resolve) {
  const std::string root_path = pid < 0 ? "/" : absl::StrCat("/proc/", pid, "/root");
  const int root = open(root_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return absl::UnavailableError(absl::StrCat("process ", pid, " is gone"));
  absl::StatusOr<int> fd = OpenRegularInRoot(root, path, resolve);
  close(root);
  return fd;
}

}  // namespace

std::string PerfMapPath(int32_t number) { return absl::StrCat("/tmp/perf-", number, ".map"); }

absl::StatusOr<int> OwnFileOpener::OpenBinary(int32_t pid, const std::string& path) {
  return OpenBelow(pid, path, 0);
}

absl::StatusOr<int> OwnFileOpener::OpenPerfMap(int32_t pid, int32_t number) {
  // Anybody can make a link of that name, to anything.
  return OpenBelow(pid, PerfMapPath(number), RESOLVE_NO_SYMLINKS);
}

}  // namespace lbrd::daemon
