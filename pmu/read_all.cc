#include "pmu/read_all.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path, uint64_t limit,
                                    const std::atomic<bool>* stop) {
  // Room that is not used is never touched, while to grow step by step takes it all twice.
  constexpr size_t kGrowth = 8;
  char piece[16384];
  std::string text;
  absl::Status status;
  while (true) {
    const ssize_t bytes = read(fd, piece, sizeof(piece));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) status = absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
    if (bytes <= 0) break;
    if (text.size() + static_cast<size_t>(bytes) > text.capacity()) {
      text.reserve(std::max(sizeof(piece), text.capacity() * kGrowth));
    }
    text.append(piece, static_cast<size_t>(bytes));
    if (text.size() > limit) {
      status =
          absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", limit, " bytes"));
      break;
    }
    if (stop != nullptr && *stop) {
      status = absl::CancelledError("no longer wanted");
      break;
    }
  }
  close(fd);
  if (!status.ok()) return status;
  return text;
}

}  // namespace lbrd::pmu
