// Who may do what: docs/design/authorization.md has the reasons. Every denial names its rule.
//
// Thread rules: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/peer_credentials.h"
#include "lbrd/v1/session.pb.h"
#include "pmu/ownership.h"

namespace lbrd::daemon {

enum class Role : uint8_t {
  kUser,   // own processes, own sessions, no kernel
  kAdmin,  // everything
};

// Whoever asks.
struct Identity {
  Role role = Role::kUser;
  uint32_t uid = UINT32_MAX;
  int32_t pid = 0;   // for people
  std::string comm;  // for people; any bytes
  // Of whom another machine's user is, by what lbrd.toml says of this name; empty: a process here.
  std::string certificate;

  bool admin() const { return role == Role::kAdmin; }
};

// Who is an admin besides root.
struct AdminPolicy {
  uint32_t daemon_uid = 0;   // who runs the daemon may do what it can
  int64_t admin_group = -1;  // its members as well; -1: there is no such group
};

Identity IdentityOf(const PeerCredentials& peer, const AdminPolicy& policy);

// The rules, as denials name them.
namespace rule {
inline constexpr char kOwnProcesses[] = "own-processes";
inline constexpr char kOwnUser[] = "own-user";
inline constexpr char kNoMachine[] = "no-machine";
inline constexpr char kNoCgroups[] = "no-cgroups";
inline constexpr char kNoRecordings[] = "no-recordings";
inline constexpr char kUserCodeOnly[] = "user-code-only";
inline constexpr char kCpuEvents[] = "cpu-events";
inline constexpr char kOwnBreakpoints[] = "own-breakpoints";
inline constexpr char kOwnDescriptors[] = "own-descriptors";
inline constexpr char kExperiments[] = "experiments";
inline constexpr char kDaemonFigures[] = "daemon-figures";
inline constexpr char kOthersHidden[] = "others-hidden";
inline constexpr char kCertificates[] = "certificates";
inline constexpr char kQuotaSessions[] = "quota-sessions";
inline constexpr char kQuotaStreams[] = "quota-streams";
inline constexpr char kQuotaRate[] = "quota-rate";
inline constexpr char kQuotaRing[] = "quota-ring";
inline constexpr char kQuotaStackCopy[] = "quota-stack-copy";
inline constexpr char kQuotaRequests[] = "quota-requests";
inline constexpr char kQuotaConnections[] = "quota-connections";
}  // namespace rule

// kPermissionDenied and kResourceExhausted that end with the rule.
absl::Status Denied(const char* rule, absl::string_view why);
absl::Status OverQuota(const char* rule, absl::string_view why);
// The rule that a status names; empty: none.
absl::string_view RuleOf(const absl::Status& status);

// What each user other than an admin may have.
struct UserLimits {
  size_t sessions = 8;  // those that have ended and are not deleted count
  size_t streams = 16;
  uint32_t frequency_hz = 10'000;           // of a process or a thread
  uint32_t machine_frequency_hz = 999;      // of all own processes: every CPU is sampled for that
  uint64_t period = 100'000;                // at least, of what comes as often as cycles or ns
  uint64_t ring_bytes = uint64_t{8} << 20;  // of each CPU
  uint32_t stack_copy_bytes = 32768;
  double requests_per_second = 200;

  // With rings of 64 MiB at most for all CPUs of a session together.
  static UserLimits ForCpus(uint32_t cpus);
};

// A session that may be started.
struct SessionPermit {
  v1::SessionSpec spec;            // what was asked for, or less
  std::vector<std::string> notes;  // what was changed, each naming its rule
  // Whose the target must be, and must still be when its events are open; -1: it does not matter.
  int32_t own_process = -1;
};

// `spec` need not be well formed: what is wrong with it is CheckSpec()'s to say.
absl::StatusOr<SessionPermit> AuthorizeSession(const Identity& who, v1::SessionSpec spec,
                                               const UserLimits& limits);
// After the look at the target that the permit asks for.
absl::Status AuthorizeTarget(int32_t pid, pmu::Ownership ownership);
// A perf descriptor of a session of theirs.
absl::Status AuthorizeDescriptor(const Identity& who, const v1::SessionSpec& spec,
                                 bool shares_events);

// Sessions of each user but the admins have names of their own: what a user calls "web" is
// "1500/web" to admins. So nobody learns of others' names by trying to take them.
std::string ScopeOf(const Identity& who);

}  // namespace lbrd::daemon
