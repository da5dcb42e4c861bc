// lbrd: the daemon.

#include <fcntl.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/audit.h"
#include "daemon/authenticator.h"
#include "daemon/authorization.h"
#include "daemon/broker_client.h"
#include "daemon/broker_kernel.h"
#include "daemon/broker_loop.h"
#include "daemon/config.h"
#include "daemon/continuous_session.h"
#include "daemon/cpu_budget.h"
#include "daemon/descriptor_server.h"
#include "daemon/engine_process.h"
#include "daemon/engine_start.h"
#include "daemon/flow_table.h"
#include "daemon/health.h"
#include "daemon/history.h"
#include "daemon/history_service.h"
#include "daemon/log.h"
#include "daemon/main_loop.h"
#include "daemon/metrics_server.h"
#include "daemon/metrics_text.h"
#include "daemon/privileges.h"
#include "daemon/profiler_service.h"
#include "daemon/recording_kernel.h"
#include "daemon/request_activity.h"
#include "daemon/sandbox.h"
#include "daemon/server.h"
#include "daemon/session_table.h"
#include "daemon/status_line.h"
#include "daemon/systemd.h"
#include "daemon/target_files.h"
#include "daemon/task_table.h"
#include "daemon/unix_listener.h"
#include "pmu/admission.h"
#include "pmu/admission_limits.h"
#include "pmu/linux_kernel.h"

namespace lbrd::daemon {
namespace {

// A recording may tell of any number of threads.
constexpr size_t kReplayContexts = size_t{1} << 16;

// What makes one run of the daemon, beside the settings.
struct Flags {
  FlagValues settings;
  std::string config_path;  // empty: the default one, if it is there
  bool check_config = false;
  bool verbose = false;
  bool replay = false;
  int ready_fd = -1;
  int engine_channel = -1;  // it is an engine, and this leads to its broker
  std::vector<std::string> arguments;
};

// Every event, every mapped binary and every client is a descriptor.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

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

// Why there is none goes to *why_none, and to the log: sessions are worth having without one.
std::unique_ptr<History> OpenHistory(const Config& config, bool replay, pmu::Kernel* kernel,
                                     std::string* why_none) {
  if (replay || config.history.empty()) {
    *why_none = "this daemon keeps no history (--no-history, or history = \"\" in lbrd.toml)";
    return nullptr;
  }
  absl::StatusOr<std::unique_ptr<History>> history =
      History::Open(kernel, {.path = config.history,
                             .max_bytes = config.history_bytes,
                             .max_age = config.history_age,
                             .bucket = config.history_bucket});
  if (history.ok()) return *std::move(history);
  *why_none =
      absl::StrCat("this daemon keeps no history: ", std::string(history.status().message()));
  Log(LogLevel::kError, *why_none);
  return nullptr;
}

std::string ConfigPath(const Flags& flags) {
  return flags.config_path.empty() ? std::string(kDefaultConfigPath) : flags.config_path;
}

// An engine need not be able to read it: its broker is.
absl::StatusOr<Config> ReadConfigFile(const std::string& path, BrokerClient* broker) {
  if (broker == nullptr) return ReadConfig(path);
  const BrokerClient::Reply reply = broker->Ask({.call = BrokerCall::kOpenConfig});
  if (reply.fd >= 0) return ReadOpenConfig(reply.fd, path);
  return absl::ErrnoToStatus(reply.error != 0 ? reply.error : EMFILE,
                             absl::StrCat("cannot read ", path));
}

// The file, and the flags over it.
absl::StatusOr<Config> LoadConfig(const Flags& flags, BrokerClient* broker = nullptr) {
  Config config;
  // A recording is read the same way wherever it is.
  if (!flags.replay) {
    const bool chosen = !flags.config_path.empty();
    absl::StatusOr<Config> read = ReadConfigFile(ConfigPath(flags), broker);
    if (read.ok()) {
      config = *std::move(read);
    } else if (chosen || !absl::IsNotFound(read.status())) {
      return read.status();
    }
  }
  if (absl::Status applied = ApplyFlags(flags.settings, &config); !applied.ok()) return applied;
  return config;
}

void LogLines(LogLevel level, absl::string_view lines) {
  for (const absl::string_view line : absl::StrSplit(lines, '\n')) Log(level, line);
}

int CheckConfig(const Flags& flags) {
  const absl::StatusOr<Config> config = LoadConfig(flags);
  if (!config.ok()) {
    LogLines(LogLevel::kError, config.status().message());
    return 2;
  }
  for (const Setting& setting : Settings()) {
    std::printf("%-15s %s\n", setting.name, setting.Get(*config).c_str());
  }
  return 0;
}

// What one can change while it runs.
void ApplyAtRunTime(const Config& config, SessionTable* sessions) {
  SetLogLevel(config.log_level);
  sessions->SetMaxSessions(config.max_sessions);
}

void Reload(const Flags& flags, BrokerClient* broker, Config* config, SessionTable* sessions) {
  const absl::StatusOr<Config> wanted = LoadConfig(flags, broker);
  if (!wanted.ok()) {
    LogLines(LogLevel::kError, wanted.status().message());
    Log(LogLevel::kError, "not reloaded: all settings stay as they were");
    return;
  }
  std::vector<std::string> told;
  *config = Reloaded(*config, *wanted, &told);
  ApplyAtRunTime(*config, sessions);
  Log(LogLevel::kInfo, told.empty() ? "reloaded: nothing has changed" : "reloaded");
  for (const std::string& line : told) Log(LogLevel::kInfo, line);
}

// The daemon's sockets, opened by its broker, or by systemd.
struct Servers {
  std::unique_ptr<Server> requests;
  std::unique_ptr<DescriptorServer> descriptors;  // not of a recording
  std::unique_ptr<MetricsServer> metrics;         // where it was asked for
};

// What they serve, and with what.
struct Served {
  ProfilerService* service;
  HistoryService* history;
  const SessionTable* sessions;
  Authenticator* authenticator;
  Audit* audit;
};

// A recording's one client has a socket that this process opens itself.
absl::StatusOr<Servers> Serve(const Config& config, const GivenSockets& given, bool replay,
                              const Served& of) {
  Servers servers;
  absl::StatusOr<std::unique_ptr<Server>> requests =
      replay ? Server::Listen(config.socket, kOwnerOnly, of.service, of.history, of.authenticator)
             : Server::Serve(given.requests, "", of.service, of.history, of.authenticator);
  if (!requests.ok()) return requests.status();
  servers.requests = *std::move(requests);
  if (replay) return servers;
  if (given.descriptors >= 0) {
    absl::StatusOr<std::unique_ptr<DescriptorServer>> descriptors =
        DescriptorServer::Serve(given.descriptors, of.sessions, of.authenticator, of.audit);
    if (!descriptors.ok()) return descriptors.status();
    servers.descriptors = *std::move(descriptors);
  }
  if (given.metrics >= 0) {
    // Who may read the figures is up to whoever opened that socket.
    servers.metrics = MetricsServer::Serve(given.metrics, [service = of.service] {
      v1::DaemonStats stats;
      service->DescribeDaemon({.role = Role::kAdmin}, &stats);
      return MetricsText(stats);
    });
  }
  return servers;
}

MainLoopDuties Duties(const Flags& flags, BrokerClient* broker, bool can_be_started_again,
                      Config* config, SessionTable* sessions, FlowTable* flows,
                      RequestActivity* activity) {
  return {.watchdog = flags.replay ? absl::InfiniteDuration() : WatchdogInterval(),
          .health =
              [sessions, health = Health()]() mutable {
                std::map<std::string, std::vector<Progress>> threads;
                for (const auto& session : sessions->List("")) {
                  threads[session->name()] = session->progress();
                }
                return health.Check(threads, absl::Now());
              },
          .status =
              [sessions, line = StatusLine()]() mutable {
                std::map<std::string, uint64_t> samples;
                for (const auto& session : sessions->List("")) {
                  if (!session->ended()) samples[session->name()] = session->samples();
                }
                return line.Next(samples, absl::Now());
              },
          .keep_budget =
              [config, flows, budget = CpuBudget(std::thread::hardware_concurrency()),
               before = uint32_t{1}]() mutable {
                const uint32_t slow_down = budget.Next(CpuTime(), absl::Now(), config->max_cpu);
                flows->SlowDown(slow_down);
                if (slow_down == std::exchange(before, slow_down)) return;
                Log(LogLevel::kInfo,
                    slow_down == 1
                        ? "within the CPU budget: sessions are sampled as they asked"
                        : absl::StrCat("CPU budget (max-cpu): shared events are sampled at 1/",
                                       slow_down, " of the rates asked for"));
              },
          .reload = [&flags, broker, config, sessions] { Reload(flags, broker, config, sessions); },
          // A session that has ended still has a profile to be asked for.
          .busy =
              [sessions, activity, begun = uint64_t{0}]() mutable {
                const uint64_t before = std::exchange(begun, activity->begun());
                const auto all = sessions->List("");
                // The daemon's own session is nobody's reason to stay.
                const bool asked_for = std::any_of(all.begin(), all.end(), [](const auto& session) {
                  return !session->spec().continuous();
                });
                return activity->open() != 0 || begun != before || asked_for;
              },
          .exit_idle =
              [can_be_started_again, config] {
                return can_be_started_again ? config->exit_idle : absl::ZeroDuration();
              }};
}

// With a broker, or (for a recording) with what rights this process has.
int RunEngine(const Flags& flags, const EngineStart& start, BrokerClient* broker) {
  absl::StatusOr<Config> config = LoadConfig(flags, broker);
  if (!config.ok()) {
    LogLines(LogLevel::kError, config.status().message());
    return 2;
  }
  SetLogLevel(config->log_level);
  // Before any thread starts, so that none of them gets them instead.
  BlockMainLoopSignals();
  signal(SIGPIPE, SIG_IGN);
  // A file that may not grow further is an error like a full disk.
  signal(SIGXFSZ, SIG_IGN);
  // Debian's build of absl looks for deadlocks at run time, at four times the price of a lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  RequestActivity& activity = RequestActivity::Install();

  std::unique_ptr<pmu::LinuxKernel> own_kernel;
  std::unique_ptr<FileOpener> opener;
  if (broker != nullptr) {
    own_kernel = std::make_unique<BrokerKernel>(broker, start.hold_rings);
    opener = std::make_unique<BrokerFileOpener>(broker);
  } else {
    own_kernel = std::make_unique<RecordingKernel>();
    opener = std::make_unique<OwnFileOpener>();
  }
  pmu::LinuxKernel& kernel = *own_kernel;
  TargetFiles files(opener.get());
  unwind::BinaryCache binaries(&files);
  pmu::Admission admission(pmu::DetectAdmissionLimits(kernel));
  // Before the sessions, which give their contexts back when they end.
  TaskTable tasks(flags.replay ? kReplayContexts : config->max_contexts);
  Audit audit(!flags.replay);  // before the sessions, whose ends it tells of
  // Who an engine is says nothing of who runs the daemon.
  Authenticator authenticator(broker == nullptr ? Authenticator::PolicyOfMachine()
                                                : AdminPolicy{.daemon_uid = start.daemon_uid,
                                                              .admin_group = start.admin_group});
  // Before the sessions too: what they find until their end goes there.
  std::string no_history;
  const std::unique_ptr<History> history = OpenHistory(*config, flags.replay, &kernel, &no_history);
  // Before the sessions, which have their shares in it.
  FlowTable flows(&kernel, &admission, &binaries, &tasks, config->linger);
  SessionTable sessions;
  ApplyAtRunTime(*config, &sessions);
  ProfilerService service(&kernel, &admission, &binaries, &sessions, &tasks, &flows, &audit,
                          &authenticator, UserLimits::ForCpus(std::thread::hardware_concurrency()),
                          flags.replay);
  service.set_history(history.get(), no_history);
  HistoryService history_service(history.get(), no_history, &authenticator);
  std::optional<ContinuousSession> continuous;
  if (history != nullptr && config->continuous) {
    continuous.emplace(&sessions, [&service](const v1::CreateSessionRequest& request) {
      return service.Create(request);
    });
    service.set_continuous(&*continuous);
  }
  absl::StatusOr<Servers> servers = Serve(*config, start.sockets, flags.replay,
                                          {.service = &service,
                                           .history = &history_service,
                                           .sessions = &sessions,
                                           .authenticator = &authenticator,
                                           .audit = &audit});
  if (!servers.ok()) {
    Log(LogLevel::kError, servers.status().message());
    return 1;
  }
  if (!flags.replay) {
    Log(LogLevel::kInfo, start.sockets_given
                             ? std::string("listening on the sockets systemd opened")
                             : absl::StrCat("listening on ", config->socket));
  }
  if (continuous.has_value()) continuous->Start();
  // Engines after the first have nobody who waits for them there.
  if (flags.ready_fd >= 0 && start.restarts == 0) {
    const char ready = '\n';
    if (write(flags.ready_fd, &ready, 1) != 1) return 1;
    close(flags.ready_fd);
  }

  const std::string why = RunMainLoop(
      Duties(flags, broker, start.sockets_given, &*config, &sessions, &flows, &activity));
  NotifySystemd("STOPPING=1\nSTATUS=stopping");
  if (!flags.replay) Log(LogLevel::kInfo, absl::StrCat("stopping: ", why));
  servers->metrics.reset();
  // Sessions first: their streams then end in order, each with its last message.
  if (continuous.has_value()) continuous->Stop();
  sessions.StopAll();
  servers->requests->Shutdown(absl::Now() + absl::Seconds(2));
  return 0;
}

int RunReplay(const Flags& flags) {
  RaiseDescriptorLimit();
  // A private daemon dies with the client that started it, and is nobody's service. It has no
  // privileges beyond its client's: there is nothing to split.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  unsetenv("NOTIFY_SOCKET");
  return RunEngine(flags, {}, nullptr);
}

int RunAsEngine(const Flags& flags) {
  prctl(PR_SET_NAME, "lbrd-engine");
  const absl::StatusOr<EngineStart> start = ReceiveEngineStart(flags.engine_channel);
  if (!start.ok()) {
    Log(LogLevel::kError, start.status().message());
    return 1;
  }
  if (absl::Status closed = EnterSandbox(); !closed.ok()) {
    Log(LogLevel::kError, closed.message());
    return 1;
  }
  fcntl(flags.engine_channel, F_SETFD, FD_CLOEXEC);
  BrokerClient broker(flags.engine_channel);
  SetNotifier([&broker](absl::string_view message) {
    broker.Ask({.call = BrokerCall::kNotify, .payload = message});
  });
  SetExeReader([&broker](int32_t pid) {
    return broker.Ask({.call = BrokerCall::kReadExe, .pid = pid}).payload;
  });
  return RunEngine(flags, *start, &broker);
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

// What takes rights that the broker does not keep is done here, before it gives them up.
absl::StatusOr<BrokerSetup> PrepareBroker(const Flags& flags, const Config& config,
                                          std::vector<std::string>* paths) {
  std::string degraded;
  if (absl::Status may = CheckPrivileges(HasCapability, &degraded); !may.ok()) return may;
  if (!degraded.empty()) Log(LogLevel::kWarning, degraded);
  const absl::StatusOr<EngineUser> user = FindEngineUser();
  if (!user.ok()) return user.status();
  const AdminPolicy policy = Authenticator::PolicyOfMachine();
  BrokerSetup setup{.user = *user,
                    .arguments = flags.arguments,
                    .start = {.daemon_uid = policy.daemon_uid, .admin_group = policy.admin_group},
                    .config_path = ConfigPath(flags),
                    .ready_fd = flags.ready_fd};
  absl::StatusOr<GivenSockets> sockets = TakeGivenSockets();
  if (!sockets.ok()) return sockets.status();
  setup.start.sockets_given = sockets->requests >= 0;
  if (!setup.start.sockets_given) {
    const int metrics = sockets->metrics;
    sockets = OpenSockets(config, paths);
    if (!sockets.ok()) return sockets.status();
    sockets->metrics = metrics;
  }
  if (absl::Status opened = OpenMetrics(config, &*sockets, paths); !opened.ok()) return opened;
  setup.start.sockets = *sockets;
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
  }
  if (absl::Status kept = KeepCapabilities(others); !kept.ok()) return kept;
  Log(LogLevel::kDebug, absl::StrCat("the engine runs as ", user->name, " (uid ", user->uid, ")"));
  return setup;
}

int RunAsBroker(const Flags& flags) {
  const absl::StatusOr<Config> config = LoadConfig(flags);
  if (!config.ok()) {
    LogLines(LogLevel::kError, config.status().message());
    return 2;
  }
  SetLogLevel(config->log_level);
  signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> paths;
  absl::StatusOr<BrokerSetup> setup = PrepareBroker(flags, *config, &paths);
  int code = 1;
  if (setup.ok()) {
    code = RunBroker(*std::move(setup));
  } else {
    Log(LogLevel::kError, setup.status().message());
  }
  for (const std::string& path : paths) unlink(path.c_str());
  return code;
}

int Run(const Flags& flags) {
  if (flags.replay) return RunReplay(flags);
  return flags.engine_channel >= 0 ? RunAsEngine(flags) : RunAsBroker(flags);
}

}  // namespace
}  // namespace lbrd::daemon

int main(int argc, char** argv) {
  using lbrd::daemon::Setting;
  lbrd::daemon::Flags flags;
  flags.arguments.assign(argv, argv + argc);
  CLI::App app{
      "lbrd owns this machine's Last Branch Records and perf events and lends them out.\n"
      "It serves lbrctl on a UNIX socket until SIGTERM or Ctrl-C; SIGHUP reloads its\n"
      "configuration. Each setting can stand in the configuration file, under the same name."};
  app.name("lbrd");
  app.set_version_flag("--version", "lbrd " LBRD_VERSION);
  const std::string settings = "Settings";
  const lbrd::daemon::Config defaults;
  for (const Setting& setting : lbrd::daemon::Settings()) {
    app.add_option_function<std::string>(
           absl::StrCat("--", setting.name),
           [&flags, &setting](const std::string& text) {
             lbrd::daemon::Config scratch;
             const absl::Status good = setting.Set(text, &scratch);
             if (!good.ok()) {
               throw CLI::ValidationError(absl::StrCat("--", setting.name),
                                          std::string(good.message()));
             }
             flags.settings[setting.name] = text;
           },
           setting.help)
        ->type_name(setting.placeholder)
        ->default_str(setting.Get(defaults))
        ->group(settings);
  }
  app.add_flag("-v,--verbose", flags.verbose, "the same as --log-level debug");
  app.add_option("--config", flags.config_path,
                 absl::StrCat("configuration file (default: ", lbrd::daemon::kDefaultConfigPath,
                              ", if it is there)"))
      ->type_name("PATH");
  app.add_flag("--check-config", flags.check_config,
               "show the settings that would be used, or what is wrong with the file, and end");
  app.add_flag("--replay", flags.replay,
               "read a perf.data recording for one client instead of profiling this machine;\n"
               "needs no root (lbrctl report starts it so)");
  app.add_option("--ready-fd", flags.ready_fd,
                 "write a newline to this descriptor once the socket is served")
      ->type_name("FD");
  // For lbrd itself: docs/design/privileges.md.
  app.add_option("--engine", flags.engine_channel, "")->group("");
  app.add_flag_callback(
      "--no-history", [&flags] { flags.settings["history"] = ""; }, "the same as --history ''");
  app.add_flag_callback(
      "--no-continuous", [&flags] { flags.settings["continuous"] = "false"; },
      "the same as --continuous false");
  app.footer(
      "Then, in another terminal:\n"
      "  lbrctl record -a -d 10s -o flamegraph.svg\n"
      "See also: lbrd(8), lbrd.toml(5), lbrctl(1)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  if (flags.verbose) flags.settings.emplace("log-level", "debug");
  return flags.check_config ? lbrd::daemon::CheckConfig(flags) : lbrd::daemon::Run(flags);
}
