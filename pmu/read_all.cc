#include "pmu/read_all.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path, uint64_t limit) {
  std::string text;
  size_t filled = 0;
  absl::Status status;
  while (true) {
    if (text.size() - filled < 4096) text.resize(std::max<size_t>(16384, text.size() * 2));
    const ssize_t bytes = read(fd, text.data() + filled, text.size() - filled);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) status = absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
    if (bytes <= 0) break;
    filled += static_cast<size_t>(bytes);
    if (filled > limit) {
      status =
          absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", limit, " bytes"));
      break;
    }
  }
  close(fd);
  if (!status.ok()) return status;
  text.resize(filled);
  return text;
}

}  // namespace lbrd::pmu
