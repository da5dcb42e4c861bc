#include "daemon/journal_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"

namespace lbrd::daemon {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
// Since Linux 6.3, and asked for where vm.memfd_noexec is 2; not in this C library's headers.
constexpr unsigned kNoExecSeal = 8;

}  // namespace

absl::StatusOr<int> MakeJournalMemory() {
  int fd = memfd_create("lbrd-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal);
  if (fd < 0 && errno == EINVAL) {
    fd = memfd_create("lbrd-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot make the journal's memory");
  if (ftruncate(fd, kJournalBytes) != 0 || fcntl(fd, F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, "cannot seal the journal's memory");
  }
  return fd;
}

absl::StatusOr<std::span<std::byte>> MapJournalMemory(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals || lseek(fd, 0, SEEK_END) != off_t{kJournalBytes}) {
    return absl::InvalidArgumentError("what the broker sent is not the journal's memory");
  }
  void* const memory = mmap(nullptr, kJournalBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map the journal");
  return std::span(static_cast<std::byte*>(memory), kJournalBytes);
}

}  // namespace lbrd::daemon
