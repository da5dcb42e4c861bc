#include "daemon/privileges.h"

#include <sys/capability.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lbrd::daemon {
namespace {

constexpr NeededCapability kNeeded[] = {
    {CAP_PERFMON, "CAP_PERFMON", "to open perf events of all processes", true, CAP_SYS_ADMIN},
    {CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to see other users' mappings and files", true},
    {CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "to read programs in folders closed to others",
     true, CAP_DAC_OVERRIDE},
    {CAP_SYSLOG, "CAP_SYSLOG", "to see the addresses of kernel functions", false}};

std::string Join(const std::vector<const NeededCapability*>& missing) {
  return absl::StrJoin(missing, ", ", [](std::string* out, const NeededCapability* capability) {
    absl::StrAppend(out, capability->name, " (", capability->purpose, ")");
  });
}

}  // namespace

std::span<const NeededCapability> NeededCapabilities() { return kNeeded; }

absl::Status CheckPrivileges(const std::function<bool(int)>& has, std::string* degraded) {
  std::vector<const NeededCapability*> essential;
  std::vector<const NeededCapability*> others;
  for (const NeededCapability& capability : kNeeded) {
    if (has(capability.number) || (capability.instead >= 0 && has(capability.instead))) continue;
    (capability.essential ? essential : others).push_back(&capability);
  }
  *degraded = others.empty() ? "" : absl::StrCat("lacks ", Join(others));
  if (essential.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("lacks ", Join(essential),
                   "; start it by systemctl start lbrd, or as root: sudo lbrd "
                   "(lbrctl report --input reads recordings without root)"));
}

bool HasCapability(int number) {
  const cap_t mine = cap_get_proc();
  if (mine == nullptr) return false;
  cap_flag_value_t value = CAP_CLEAR;
  const bool known = cap_get_flag(mine, number, CAP_EFFECTIVE, &value) == 0;
  cap_free(mine);
  return known && value == CAP_SET;
}

}  // namespace lbrd::daemon
