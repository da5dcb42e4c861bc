#include "daemon/privileges.h"

#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <type_traits>
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

// Whether it has any but these.
bool HasOthers(const std::vector<cap_value_t>& kept) {
  const std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> mine(cap_get_proc(),
                                                                           cap_free);
  if (mine == nullptr) return true;
  for (int number = 0; number <= cap_max_bits(); ++number) {
    cap_flag_value_t value = CAP_CLEAR;
    if (cap_get_flag(mine.get(), number, CAP_PERMITTED, &value) == 0 && value == CAP_SET &&
        std::find(kept.begin(), kept.end(), number) == kept.end()) {
      return true;
    }
  }
  return false;
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

absl::Status KeepCapabilities(std::span<const int> others) {
  std::vector<cap_value_t> kept;
  for (const NeededCapability& needed : kNeeded) {
    if (HasCapability(needed.number)) {
      kept.push_back(needed.number);
    } else if (needed.instead >= 0 && HasCapability(needed.instead)) {
      kept.push_back(needed.instead);
    }
  }
  for (const int other : others) {
    if (HasCapability(other)) kept.push_back(other);
  }
  // Not even by executing something. Whoever may not drop them there has no others to begin with
  // (systemd's CapabilityBoundingSet=), or cannot gain them (no new privileges).
  for (int number = 0; number <= cap_max_bits(); ++number) {
    if (std::find(kept.begin(), kept.end(), number) == kept.end()) cap_drop_bound(number);
  }
  const std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> set(cap_init(), cap_free);
  const int count = static_cast<int>(kept.size());
  if (set == nullptr || cap_set_flag(set.get(), CAP_PERMITTED, count, kept.data(), CAP_SET) != 0 ||
      cap_set_flag(set.get(), CAP_EFFECTIVE, count, kept.data(), CAP_SET) != 0) {
    return absl::InternalError("cannot make a set of capabilities");
  }
  // systemd's filter may forbid what is not needed: there it has given just these.
  if (HasOthers(kept) && cap_set_proc(set.get()) != 0) {
    return absl::ErrnoToStatus(errno, "cannot give up capabilities");
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return absl::ErrnoToStatus(errno, "cannot give up privileges");
  }
  return absl::OkStatus();
}

bool HasNoCapability() { return !HasOthers({}); }

}  // namespace lbrd::daemon
