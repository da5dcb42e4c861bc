#include "daemon/file_bytes.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "unwind/elf_file.h"

namespace lbrd::daemon {
namespace {

class FdBytes : public unwind::ByteSource {
 public:
  explicit FdBytes(int fd) : fd_(fd) {}
  ~FdBytes() override { close(fd_); }
  // As it is now: what a JIT compiler writes grows.
  uint64_t size() const override {
    struct stat status;
    return fstat(fd_, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
  }
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    while (!out.empty()) {
      const ssize_t bytes = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0) return absl::ErrnoToStatus(errno, "cannot read");
      if (bytes == 0) return absl::OutOfRangeError("the file ends before");
      out = out.subspan(static_cast<size_t>(bytes));
      offset += static_cast<uint64_t>(bytes);
    }
    return absl::OkStatus();
  }

 private:
  const int fd_;
};

class MemoryImage : public unwind::ByteSource {
 public:
  explicit MemoryImage(std::span<const std::byte> bytes) : bytes_(bytes.begin(), bytes.end()) {}
  uint64_t size() const override { return bytes_.size(); }
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || bytes_.size() - offset < out.size()) {
      return absl::OutOfRangeError("the image ends before");
    }
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return absl::OkStatus();
  }

 private:
  const std::vector<std::byte> bytes_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> FileBytes(int fd,
                                                                    absl::string_view path) {
  struct stat status;
  if (fstat(fd, &status) != 0) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, absl::StrCat("cannot examine ", path));
  }
  return std::make_shared<FdBytes>(fd);
}

absl::StatusOr<int> OpenRegularInRoot(int root, const std::string& path, uint64_t resolve) {
  open_how how{};
  // First only a handle, which opens nothing: a FIFO or a device is found out before it can act.
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
  const int handle = static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how)));
  if (handle < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat status;
  if (fstat(handle, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(handle);
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  }
  const int fd = open(absl::StrCat("/proc/self/fd/", handle).c_str(),
                      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  const int error = errno;
  close(handle);
  if (fd < 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot open ", path));
  return fd;
}

absl::StatusOr<int> OpenRegular(const std::string& path) {
  const int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return absl::ErrnoToStatus(errno, "cannot open /");
  absl::StatusOr<int> fd = OpenRegularInRoot(root, path);
  close(root);
  return fd;
}

absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> VdsoBytes() {
  const auto* image = reinterpret_cast<const std::byte*>(getauxval(AT_SYSINFO_EHDR));
  if (image == nullptr) return absl::NotFoundError("this kernel maps no vdso");
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof(header));
  // The image ends with its section headers; the kernel made it, so it can be believed.
  uint64_t end = header.e_shoff + uint64_t{header.e_shnum} * header.e_shentsize;
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, image + header.e_phoff + i * sizeof(segment), sizeof(segment));
    if (segment.p_type == PT_LOAD) end = std::max(end, segment.p_offset + segment.p_filesz);
  }
  return std::make_shared<MemoryImage>(std::span(image, end));
}

std::string BuildIdPath(absl::string_view folder, absl::string_view build_id,
                        absl::string_view suffix) {
  if (build_id.size() < 3) return "";
  return absl::StrCat(folder, "/.build-id/", build_id.substr(0, 2), "/", build_id.substr(2),
                      suffix);
}

bool HasBuildId(const std::shared_ptr<const unwind::ByteSource>& bytes,
                absl::string_view build_id) {
  const absl::StatusOr<unwind::ElfFile> elf = unwind::ElfFile::Parse(bytes);
  // The kernel's records hold at most 20 bytes of it.
  return elf.ok() && !elf->build_id().empty() &&
         absl::string_view(elf->build_id()).substr(0, 40) == build_id.substr(0, 40);
}

}  // namespace lbrd::daemon
