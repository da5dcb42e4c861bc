#include "daemon/process_facts.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/process_status.h"

namespace lbrd::daemon {
namespace {

// Empty: it cannot be read, or the process is gone by now. These files are made by the kernel and
// are smaller. (A stream's buffer would throw where a read of it fails.)
std::string ReadProc(int32_t pid, absl::string_view name) {
  const int fd = open(absl::StrCat("/proc/", pid, "/", name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string text(kMaxStatusBytes, '\0');
  size_t size = 0;
  ssize_t got = 0;
  while (size < text.size() && (got = read(fd, text.data() + size, text.size() - size)) > 0) {
    size += static_cast<size_t>(got);
  }
  close(fd);
  text.resize(got < 0 ? 0 : size);
  return text;
}

int64_t Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec;
}

}  // namespace

std::optional<ProcessFacts> ReadProcessFacts(int32_t pid) {
  ProcessFacts facts{.namespaced_pid = pid};
  const ProcessStatus status = ParseProcessStatus(ReadProc(pid, "status"));
  if (!status.users.has_value()) return std::nullopt;
  facts.uid = status.users->effective;
  if (status.namespaced_pid.has_value()) facts.namespaced_pid = *status.namespaced_pid;
  // The 22nd field is the start in clock ticks since the boot; the second, the name in parentheses,
  // may hold anything, so counting begins behind it.
  const std::string stat = ReadProc(pid, "stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(name_end + 1), ' ', absl::SkipEmpty());
  int64_t ticks = 0;
  if (fields.size() < 20 || !absl::SimpleAtoi(fields[19], &ticks)) return std::nullopt;
  const int64_t age = Seconds(CLOCK_BOOTTIME) - ticks / sysconf(_SC_CLK_TCK);
  facts.start_seconds = Seconds(CLOCK_REALTIME) - age;
  return facts;
}

}  // namespace lbrd::daemon
