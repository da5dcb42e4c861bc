#include "daemon/broker_main.h"

#include <signal.h>
#include <sys/capability.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/authenticator.h"
#include "daemon/broker_loop.h"
#include "daemon/engine_process.h"
#include "daemon/engine_start.h"
#include "daemon/journal_memory.h"
#include "daemon/log.h"
#include "daemon/metrics_address.h"
#include "daemon/metrics_server.h"
#include "daemon/privileges.h"
#include "daemon/systemd.h"
#include "daemon/tcp_address.h"
#include "daemon/unix_listener.h"

namespace lbrd::daemon {
namespace {

// Connections that wait while one is taken up.
constexpr int kTlsBacklog = 32;

// Rings are locked memory. False: some bound stays, which this process may not lift.
bool RaiseLockLimit() {
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &none) == 0) return true;
  rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur == RLIM_INFINITY;
}

// The sockets of a daemon that systemd gave none. Their paths go to *paths.
absl::StatusOr<GivenSockets> OpenSockets(const Config& config, std::vector<std::string>* paths) {
  GivenSockets sockets;
  const absl::StatusOr<int> requests = ListenOnUnixSocket(config.socket, kEverybody);
  if (!requests.ok()) return requests.status();
  sockets.requests = *requests;
  paths->push_back(config.socket);
  const absl::StatusOr<int> descriptors = ListenOnUnixSocket(config.socket + ".fd", kEverybody);
  if (!descriptors.ok()) return descriptors.status();
  sockets.descriptors = *descriptors;
  paths->push_back(config.socket + ".fd");
  return sockets;
}

absl::Status OpenMetrics(const Config& config, GivenSockets* sockets,
                         std::vector<std::string>* paths) {
  if (sockets->metrics >= 0 || config.metrics.empty()) return absl::OkStatus();
  const absl::StatusOr<MetricsAddress> address = ParseMetricsAddress(config.metrics);
  if (!address.ok()) return address.status();
  const absl::StatusOr<int> listener = ListenForMetrics(*address);
  if (!listener.ok()) return listener.status();
  sockets->metrics = *listener;
  if (const auto* unix_address = std::get_if<UnixAddress>(&*address)) {
    paths->push_back(unix_address->path);
  }
  return absl::OkStatus();
}

absl::Status OpenTls(const Config& config, GivenSockets* sockets) {
  if (sockets->tls < 0 && config.tls_listen.empty()) return absl::OkStatus();
  for (const std::string* file : {&config.tls_cert, &config.tls_key, &config.tls_ca}) {
    if (!file->empty()) continue;
    return absl::InvalidArgumentError(
        "other machines can be served with tls-cert, tls-key and tls-ca only: docs/design/"
        "authorization.md says how to make them");
  }
  if (config.tls_admins.empty() && config.tls_users.empty()) {
    return absl::InvalidArgumentError(
        "no certificate has a role: say whose may do what, by tls-admins and tls-users");
  }
  if (sockets->tls >= 0) return absl::OkStatus();
  const std::optional<TcpAddress> address = ParseTcpAddress(config.tls_listen);
  if (!address.has_value()) return absl::InvalidArgumentError("tls-listen: no address");
  const absl::StatusOr<int> listener = ListenOnTcp(*address, kTlsBacklog);
  if (!listener.ok()) return listener.status();
  sockets->tls = *listener;
  return absl::OkStatus();
}

// What takes rights that the broker does not keep is done here, before it gives them up.
absl::StatusOr<BrokerSetup> PrepareBroker(const StartOptions& options, const Config& config,
                                          std::vector<std::string>* paths) {
  std::string degraded;
  if (absl::Status may = CheckPrivileges(HasCapability, &degraded); !may.ok()) return may;
  if (!degraded.empty()) Log(LogLevel::kWarning, degraded);
  const absl::StatusOr<EngineUser> user = FindEngineUser();
  if (!user.ok()) return user.status();
  const AdminPolicy policy = Authenticator::PolicyOfMachine();
  BrokerSetup setup{.user = *user,
                    .arguments = options.arguments,
                    .start = {.daemon_uid = policy.daemon_uid, .admin_group = policy.admin_group},
                    .config_path = ConfigPath(options),
                    .tls_files = {config.tls_cert, config.tls_key, config.tls_ca},
                    .ready = ReadyDescriptor(options.ready_fd)};
  absl::StatusOr<GivenSockets> sockets = TakeGivenSockets();
  if (!sockets.ok()) return sockets.status();
  setup.start.sockets_given = sockets->requests >= 0;
  if (!setup.start.sockets_given) {
    const GivenSockets given = *sockets;
    sockets = OpenSockets(config, paths);
    if (!sockets.ok()) return sockets.status();
    sockets->metrics = given.metrics;
    sockets->tls = given.tls;
  }
  if (absl::Status opened = OpenMetrics(config, &*sockets, paths); !opened.ok()) return opened;
  if (absl::Status opened = OpenTls(config, &*sockets); !opened.ok()) return opened;
  setup.start.sockets = *sockets;
  if (const absl::StatusOr<int> journal = MakeJournalMemory(); journal.ok()) {
    setup.start.journal = *journal;
  } else {
    Log(LogLevel::kError,
        absl::StrCat(journal.status().message(), ": sessions will not survive the engine's end"));
  }
  if (absl::Status given = GiveHistory(*user, config.history); !given.ok()) {
    Log(LogLevel::kError, given.message());
  }
  RaiseDescriptorLimit();
  setup.start.hold_rings = !RaiseLockLimit() && HasCapability(CAP_IPC_LOCK);
  std::vector<int> others;
  if (user->change) others = {CAP_SETUID, CAP_SETGID, CAP_KILL};
  if (setup.start.hold_rings) others.push_back(CAP_IPC_LOCK);
  // Level 3 is of distributors' kernels (Debian's by default), and asks for more than CAP_PERFMON.
  int paranoid = 0;
  if (std::ifstream("/proc/sys/kernel/perf_event_paranoid") >> paranoid && paranoid > 2) {
    others.push_back(CAP_SYS_ADMIN);
    if (!HasCapability(CAP_SYS_ADMIN)) {
      Log(LogLevel::kWarning,
          absl::StrCat("kernel.perf_event_paranoid is ", paranoid,
                       ", at which this kernel opens no event without CAP_SYS_ADMIN; "
                       "sysctl kernel.perf_event_paranoid=2 lets lbrd work"));
    }
  }
  if (absl::Status kept = KeepCapabilities(others); !kept.ok()) return kept;
  Log(LogLevel::kDebug, absl::StrCat("the engine runs as ", user->name, " (uid ", user->uid, ")"));
  return setup;
}

}  // namespace

int BrokerMain(const StartOptions& options) {
  const std::optional<Config> config = LoadConfigAtStart(options);
  if (!config.has_value()) return 2;
  signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> paths;
  absl::StatusOr<BrokerSetup> setup = PrepareBroker(options, *config, &paths);
  int code = 1;
  if (setup.ok()) {
    code = RunBroker(*std::move(setup));
  } else {
    Log(LogLevel::kError, setup.status().message());
  }
  for (const std::string& path : paths) unlink(path.c_str());
  return code;
}

}  // namespace lbrd::daemon
