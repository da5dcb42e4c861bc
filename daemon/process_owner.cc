#include "daemon/process_owner.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace lbrd::daemon {
namespace {

using pmu::Ownership;

bool AllAre(absl::string_view uids, uint32_t wanted) {
  int count = 0;
  for (const absl::string_view word :
       absl::StrSplit(uids, absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
    uint32_t uid = 0;
    if (!absl::SimpleAtoi(word, &uid) || uid != wanted) return false;
    ++count;
  }
  return count == 4;
}

Ownership OwnershipOfFolder(int folder, uint32_t uid) {
  // The owner of these files is the process's effective user, or root where it is not dumpable.
  struct stat environment;
  if (fstatat(folder, "environ", &environment, 0) != 0) return Ownership::kGone;
  const int fd = openat(folder, "status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Ownership::kGone;
  std::string status(8192, '\0');
  const ssize_t bytes = read(fd, status.data(), status.size());
  close(fd);
  if (bytes <= 0) return Ownership::kGone;
  status.resize(static_cast<size_t>(bytes));
  bool users = false;
  bool capabilities = true;
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (absl::ConsumePrefix(&line, "Uid:")) users = AllAre(line, uid);
    uint64_t held = 0;
    if (absl::ConsumePrefix(&line, "CapPrm:") &&
        absl::SimpleHexAtoi(absl::StripAsciiWhitespace(line), &held)) {
      capabilities = held != 0;
    }
  }
  // Root has all rights by what it is.
  if (uid == 0) capabilities = false;
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
