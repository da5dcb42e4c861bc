#include "daemon/process_owner.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/process_status.h"

namespace lbrd::daemon {
namespace {

using pmu::Ownership;

Ownership OwnershipOfFolder(int folder, uint32_t uid) {
  // The owner of these files is the process's effective user, or root where it is not dumpable.
  struct stat environment;
  if (fstatat(folder, "environ", &environment, 0) != 0) return Ownership::kGone;
  const int fd = openat(folder, "status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Ownership::kGone;
  std::string text(kMaxStatusBytes, '\0');
  const ssize_t bytes = read(fd, text.data(), text.size());
  close(fd);
  if (bytes <= 0) return Ownership::kGone;
  text.resize(static_cast<size_t>(bytes));
  const ProcessStatus status = ParseProcessStatus(text);
  const bool users = status.users.has_value() && status.users->AllAre(uid);
  // Root has all rights by what it is.
  const bool capabilities = uid != 0 && status.permitted_capabilities != uint64_t{0};
  return users && !capabilities && environment.st_uid == uid ? Ownership::kOwn : Ownership::kOther;
}

}  // namespace

HeldProcess::HeldProcess(int32_t pid)
    : folder_(open(absl::StrCat("/proc/", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {}

HeldProcess::~HeldProcess() {
  if (folder_ >= 0) close(folder_);
}

Ownership HeldProcess::OwnershipBy(uint32_t uid) const {
  return folder_ < 0 ? Ownership::kGone : OwnershipOfFolder(folder_, uid);
}

}  // namespace lbrd::daemon
