#include "pmu/perf_data_input.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

PerfDataInput::PerfDataInput(int fd, int wake_fd, bool owns_fd, std::string name)
    : fd_(fd), wake_fd_(wake_fd), owns_fd_(owns_fd), name_(std::move(name)) {}

PerfDataInput::~PerfDataInput() {
  if (owns_fd_) close(fd_);
  if (wake_fd_ >= 0) close(wake_fd_);
}

absl::StatusOr<std::unique_ptr<PerfDataInput>> PerfDataInput::Open(const std::string& path) {
  const bool standard_input = path == "-";
  const int fd =
      standard_input ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::unique_ptr<PerfDataInput> input(
      new PerfDataInput(fd, wake_fd, !standard_input, standard_input ? "standard input" : path));
  if (wake_fd < 0) return absl::ErrnoToStatus(errno, "cannot make an eventfd");
  struct stat status;
  if (fstat(fd, &status) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  if (S_ISDIR(status.st_mode)) {
    return input->Error(absl::StatusCode::kUnimplemented,
                        "is a directory; recordings made with 'perf record --threads' cannot be "
                        "read: record without it");
  }
  if (S_ISREG(status.st_mode)) {
    input->seekable_ = true;
    input->size_ = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
  }
  return input;
}

absl::StatusOr<size_t> PerfDataInput::Read(std::span<std::byte> into) {
  if (seekable_) {
    absl::StatusOr<size_t> count = ReadAt(position_, into);
    if (count.ok()) position_ += *count;
    return count;
  }
  for (;;) {
    pollfd ready[] = {{.fd = fd_, .events = POLLIN, .revents = 0},
                      {.fd = wake_fd_, .events = POLLIN, .revents = 0}};
    if (poll(ready, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot wait for ", name_));
    }
    if (ready[1].revents != 0)
      return Error(absl::StatusCode::kCancelled, "reading was interrupted");
    const ssize_t count = read(fd_, into.data(), into.size());
    if (count >= 0) {
      position_ += static_cast<uint64_t>(count);
      return static_cast<size_t>(count);
    }
    if (errno != EINTR && errno != EAGAIN) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", name_));
    }
  }
}

absl::StatusOr<size_t> PerfDataInput::ReadAt(uint64_t offset, std::span<std::byte> into) {
  if (offset >= size_) return 0;
  into = into.first(std::min<uint64_t>(into.size(), size_ - offset));
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t count =
        pread(fd_, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", name_, " at ", offset + done));
    }
    done += static_cast<size_t>(count);
  }
  return done;
}

absl::StatusOr<FileWindow> PerfDataInput::Show(uint64_t offset, size_t bytes) {
  return FileWindow::Map(fd_, offset, std::min<uint64_t>(bytes, size_ - offset), &lost_);
}

absl::Status PerfDataInput::Intact() const {
  struct stat status;
  const bool shorter =
      seekable_ && fstat(fd_, &status) == 0 && static_cast<uint64_t>(status.st_size) < size_;
  if (!shorter && !lost_.load(std::memory_order_relaxed)) return absl::OkStatus();
  return Error(absl::StatusCode::kDataLoss,
               shorter ? "became shorter while it was read: read it again when nobody writes to it"
                       : "some of it could not be read (the kernel's log may say why)");
}

void PerfDataInput::Interrupt() {
  const uint64_t one = 1;
  // It can only fail when it is signalled already.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

absl::Status PerfDataInput::Error(absl::StatusCode code, absl::string_view text) const {
  return absl::Status(code, absl::StrCat(name_, ": ", text));
}

}  // namespace lbrd::pmu
