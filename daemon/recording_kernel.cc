#include "daemon/recording_kernel.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

// Room that is added at a time: the file's size is not known before its end.
constexpr size_t kStepBytes = size_t{4} << 20;

}  // namespace

RecordingKernel::RecordingKernel(std::string path)
    : path_(std::move(path)), text_(std::async(std::launch::async, [this] {
        pthread_setname_np(pthread_self(), "lbrd-names");
        return ReadAhead();
      })) {}

RecordingKernel::~RecordingKernel() { stop_ = true; }  // and text_ waits for the thread

absl::StatusOr<std::string> RecordingKernel::ReadAhead() const {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path_));
  std::string text;
  size_t filled = 0;
  absl::Status status;
  while (status.ok()) {
    if (text.size() - filled < kStepBytes / 2) text.resize(text.size() + kStepBytes);
    const ssize_t bytes = read(fd, text.data() + filled, text.size() - filled);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) status = absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
    if (bytes <= 0) break;
    filled += static_cast<size_t>(bytes);
    if (filled > kMaxBytes) {
      status = absl::ResourceExhaustedError(
          absl::StrCat(path_, " is larger than ", kMaxBytes, " bytes"));
    }
    if (stop_) status = absl::CancelledError("no longer wanted");
  }
  close(fd);
  if (!status.ok()) return status;
  text.resize(filled);
  return text;
}

absl::StatusOr<std::string> RecordingKernel::ReadFile(const std::string& path, uint64_t limit) {
  if (path != path_ || taken_.exchange(true)) return LinuxKernel::ReadFile(path, limit);
  absl::StatusOr<std::string> text = text_.get();
  if (text.ok() && text->size() > limit) {
    return absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", limit, " bytes"));
  }
  return text;
}

}  // namespace lbrd::daemon
