// The capabilities(7) that the daemon needs, and for what. It needs no others, and not to be root:
// systemd/lbrd.service gives it exactly these.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"

namespace lbrd::daemon {

struct NeededCapability {
  int number;        // CAP_…
  const char* name;  // "CAP_PERFMON"
  const char* purpose;
  bool essential;    // without it lbrd does not start; else it works less well
  int instead = -1;  // a capability that contains it; -1: none
};
std::span<const NeededCapability> NeededCapabilities();

// `has`: whether the process has a capability in effect.
//
// kPermissionDenied: which essential ones are missing, for what, and what to do. Otherwise OK, and
// *degraded says which others are missing; empty: none.
absl::Status CheckPrivileges(const std::function<bool(int)>& has, std::string* degraded);
// Of this process.
bool HasCapability(int number);

// Those that the broker keeps of what the process has: the needed ones (or what contains them), and
// `others`. All others are gone from this process and its children, for good.
absl::Status KeepCapabilities(std::span<const int> others);
// Whether this process has none, in effect or to be had back.
bool HasNoCapability();

}  // namespace lbrd::daemon
