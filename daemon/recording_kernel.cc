#include "daemon/recording_kernel.h"

#include <fcntl.h>
#include <pthread.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/read_all.h"

namespace lbrd::daemon {

RecordingKernel::RecordingKernel(std::string path)
    : path_(std::move(path)), text_(std::async(std::launch::async, [this] {
        pthread_setname_np(pthread_self(), "lbrd-names");
        return ReadAhead();
      })) {}

RecordingKernel::~RecordingKernel() { stop_ = true; }  // and text_ waits for the thread

absl::StatusOr<std::string> RecordingKernel::ReadAhead() const {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path_));
  return pmu::ReadAll(fd, path_, kMaxBytes, &stop_);
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
