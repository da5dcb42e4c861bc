#include "daemon/authorization.h"

#include <algorithm>
#include <bit>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/session_events.h"
#include "pmu/event_name.h"
#include "pmu/event_request.h"
#include "pmu/event_set.h"

namespace lbrd::daemon {
namespace {

constexpr uint64_t kSessionRingBytes = uint64_t{64} << 20;
constexpr uint64_t kMinRingBytes = uint64_t{64} << 10;
// The kernel's half of the address space: x86-64's and AArch64's addresses with the top bit set.
constexpr uint64_t kKernelHalf = uint64_t{1} << 63;

absl::Status CheckTarget(const Identity& who, const v1::Target& target) {
  const std::string instead =
      absl::StrCat("profile one of yours (-p PID, -- COMMAND), or all of yours (--uid ", who.uid,
                   "); root and members of group lbrd may profile everything");
  switch (target.kind_case()) {
    case v1::Target::kAllCpus:
    case v1::Target::kCpuList:
      return Denied(rule::kNoMachine, absl::StrCat("the whole machine is everybody's; ", instead));
    case v1::Target::kCgroup:
      return Denied(rule::kNoCgroups,
                    absl::StrCat("a cgroup may hold others' processes; ", instead));
    case v1::Target::kUser:
      if (target.user().uid() == who.uid) return absl::OkStatus();
      return Denied(rule::kOwnUser, absl::StrCat("the processes of user ", target.user().uid(),
                                                 " are not yours; ", instead));
    case v1::Target::kRecording:
      return Denied(rule::kNoRecordings,
                    "this daemon profiles the machine and reads no files for others; use lbrctl "
                    "report --input, which needs no rights");
    default:
      return absl::OkStatus();
  }
}

absl::Status CheckEvent(const v1::SessionSpec& spec) {
  if (spec.event().empty()) return absl::OkStatus();
  const absl::StatusOr<pmu::EventCode> code = pmu::FindEvent(spec.event());
  if (!code.ok()) return absl::OkStatus();  // refused with a better word by whoever opens it
  if (code->breakpoint()) {
    if (code->config1 >= kKernelHalf) {
      return Denied(rule::kOwnBreakpoints,
                    "that address is the kernel's; take one of your own process");
    }
    if (spec.target().has_user()) {
      return Denied(rule::kOwnBreakpoints,
                    "a breakpoint of the whole machine takes one from everybody; set it on a "
                    "process (-p PID) or a thread (-t TID)");
    }
  } else if (code->type != PERF_TYPE_HARDWARE && code->type != PERF_TYPE_SOFTWARE &&
             code->type != PERF_TYPE_HW_CACHE && code->type != PERF_TYPE_RAW) {
    return Denied(rule::kCpuEvents, absl::StrCat("'", spec.event(),
                                                 "' is no event of a CPU or of the kernel's "
                                                 "software counters; try cycles or cpu-clock"));
  }
  if (code->exclude_user) {
    return Denied(rule::kUserCodeOnly,
                  absl::StrCat("'", spec.event(),
                               "' is counted in the kernel only, and what happens there is not "
                               "shown; leave the modifier away"));
  }
  return absl::OkStatus();
}

absl::Status CheckQuotas(const v1::SessionSpec& spec, const UserLimits& limits) {
  const bool machine = spec.target().has_user();
  const uint32_t frequency = machine ? limits.machine_frequency_hz : limits.frequency_hz;
  const absl::StatusOr<pmu::EventCode> code = pmu::FindEvent(spec.event());
  uint32_t asked = spec.frequency_hz();
  if (asked == 0 && spec.period() == 0 && !(code.ok() && code->breakpoint())) {
    asked = pmu::kDefaultFrequencyHz;
  }
  if (asked > frequency) {
    return OverQuota(rule::kQuotaRate, absl::StrCat("frequency_hz: ", asked, " is more than the ",
                                                    frequency, " that you may have of ",
                                                    machine ? "all your processes" : "a process"));
  }
  if (spec.period() != 0 && machine) {
    return OverQuota(rule::kQuotaRate,
                     "period: of all your processes, events are sampled by frequency_hz (-F) only");
  }
  const bool rare =
      code.ok() && (code->breakpoint() || (code->type == PERF_TYPE_SOFTWARE && !code->clock()));
  if (spec.period() != 0 && spec.period() < limits.period && !rare) {
    return OverQuota(rule::kQuotaRate, absl::StrCat("period: ", spec.period(), " is less than the ",
                                                    limits.period, " that you may have"));
  }
  if (spec.ring_bytes() > limits.ring_bytes) {
    return OverQuota(rule::kQuotaRing,
                     absl::StrCat("ring_bytes: ", spec.ring_bytes(), " is more than the ",
                                  limits.ring_bytes, " of each CPU that you may have"));
  }
  if (spec.stack_copy_bytes() > limits.stack_copy_bytes) {
    return OverQuota(
        rule::kQuotaStackCopy,
        absl::StrCat("stack_copy_bytes: ", spec.stack_copy_bytes(), " is more than the ",
                     limits.stack_copy_bytes, " that you may have"));
  }
  return absl::OkStatus();
}

// What each of so many events may have.
UserLimits ShareOf(UserLimits limits, uint32_t events) {
  limits.frequency_hz = std::max(1u, limits.frequency_hz / events);
  limits.machine_frequency_hz = std::max(1u, limits.machine_frequency_hz / events);
  limits.period *= events;
  // Rings are powers of two of pages.
  limits.ring_bytes /= std::bit_ceil(events);
  return limits;
}

}  // namespace

Identity IdentityOf(const PeerCredentials& peer, const AdminPolicy& policy) {
  Identity who{.uid = peer.uid, .pid = peer.pid, .comm = peer.comm};
  const auto in_group = [&policy](gid_t group) { return int64_t{group} == policy.admin_group; };
  if (peer.uid == 0 || peer.uid == policy.daemon_uid || in_group(peer.gid) ||
      std::any_of(peer.groups.begin(), peer.groups.end(), in_group)) {
    who.role = Role::kAdmin;
  }
  return who;
}

absl::Status Denied(const char* rule, absl::string_view why) {
  return absl::PermissionDeniedError(absl::StrCat(why, " (rule ", rule, ")"));
}

absl::Status OverQuota(const char* rule, absl::string_view why) {
  return absl::ResourceExhaustedError(absl::StrCat(why, " (rule ", rule, ")"));
}

absl::string_view RuleOf(const absl::Status& status) {
  constexpr absl::string_view kBefore = " (rule ";
  const absl::string_view message = status.message();
  const size_t at = message.rfind(kBefore);
  if (status.ok() || at == absl::string_view::npos || !absl::EndsWith(message, ")")) return "";
  const size_t name = at + kBefore.size();
  return message.substr(name, message.size() - name - 1);
}

UserLimits UserLimits::ForCpus(uint32_t cpus) {
  UserLimits limits;
  limits.ring_bytes = std::clamp(std::bit_floor(kSessionRingBytes / std::max(cpus, 1u)),
                                 kMinRingBytes, pmu::kDefaultRingBytes);
  return limits;
}

absl::StatusOr<SessionPermit> AuthorizeSession(const Identity& who, v1::SessionSpec spec,
                                               const UserLimits& limits) {
  SessionPermit permit;
  // Of any request, so that none makes more of it than a session may have.
  if (absl::Status events = CheckEvents(spec); !events.ok()) return events;
  if (!who.admin()) {
    if (absl::Status target = CheckTarget(who, spec.target()); !target.ok()) return target;
    // What a user may have is for all events of a session together.
    const UserLimits of_event = ShareOf(limits, static_cast<uint32_t>(spec.more_events_size()) + 1);
    for (const v1::SessionSpec& one : SpecPerEvent(spec)) {
      if (absl::Status event = CheckEvent(one); !event.ok()) return event;
      if (absl::Status quotas = CheckQuotas(one, of_event); !quotas.ok()) {
        return OfEvent(spec, one, quotas);
      }
    }
    if (spec.ring_bytes() == 0) spec.set_ring_bytes(of_event.ring_bytes);
    if (!spec.user_only()) {
      spec.set_user_only(true);
      permit.notes.push_back(
          absl::StrCat("what happens in the kernel is left out: only root and members of group "
                       "lbrd may see it (rule ",
                       rule::kUserCodeOnly, ")"));
    }
    if (spec.target().has_process()) permit.own_process = spec.target().process().pid();
    if (spec.target().has_thread()) permit.own_process = spec.target().thread().tid();
  }
  permit.spec = std::move(spec);
  return permit;
}

absl::Status AuthorizeTarget(int32_t pid, pmu::Ownership ownership) {
  if (ownership == pmu::Ownership::kOwn) return absl::OkStatus();
  // One answer for both: which processes there are may be hidden from the caller.
  return Denied(rule::kOwnProcesses,
                absl::StrCat("process ", pid,
                             " is not there, or is not wholly yours (another user, setuid, with "
                             "capabilities, or not dumpable)"));
}

absl::Status AuthorizeDescriptor(const Identity& who, const v1::SessionSpec& spec,
                                 bool shares_events) {
  const bool of_process = spec.target().has_process() || spec.target().has_thread();
  if (who.admin() || (of_process && !shares_events)) {
    return absl::OkStatus();
  }
  return Denied(rule::kOwnDescriptors,
                "the events of this session see the whole machine; lent to you are only those that "
                "a session of a process (-p) or a thread (-t) has to itself");
}

std::string ScopeOf(const Identity& who) { return who.admin() ? "" : absl::StrCat(who.uid, "/"); }

}  // namespace lbrd::daemon
