#include "daemon/engine_main.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/audit.h"
#include "daemon/authenticator.h"
#include "daemon/authorization.h"
#include "daemon/broker_client.h"
#include "daemon/broker_kernel.h"
#include "daemon/certificate_roles.h"
#include "daemon/continuous_session.h"
#include "daemon/cpu_budget.h"
#include "daemon/cpu_time.h"
#include "daemon/descriptor_server.h"
#include "daemon/engine_start.h"
#include "daemon/figures_keeper.h"
#include "daemon/flow_table.h"
#include "daemon/health.h"
#include "daemon/history.h"
#include "daemon/history_service.h"
#include "daemon/journal_memory.h"
#include "daemon/log.h"
#include "daemon/main_loop.h"
#include "daemon/metrics_server.h"
#include "daemon/metrics_text.h"
#include "daemon/peer_table.h"
#include "daemon/profiler_service.h"
#include "daemon/ready_descriptor.h"
#include "daemon/recording_kernel.h"
#include "daemon/request_activity.h"
#include "daemon/sample_memory.h"
#include "daemon/sandbox.h"
#include "daemon/server.h"
#include "daemon/session_journal.h"
#include "daemon/session_table.h"
#include "daemon/status_line.h"
#include "daemon/systemd.h"
#include "daemon/target_files.h"
#include "daemon/task_table.h"
#include "daemon/tls_endpoint.h"
#include "daemon/unix_listener.h"
#include "pmu/admission.h"
#include "pmu/admission_limits.h"

namespace lbrd::daemon {
namespace {

// A recording may tell of any number of threads.
constexpr size_t kReplayContexts = size_t{1} << 16;

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

// What one can change while it runs.
void ApplyAtRunTime(const Config& config, bool replay, SessionTable* sessions) {
  SetLogLevel(config.log_level);
  // Who reads a recording waits for its readers, and wants all of it.
  SampleMemory::OfProcess().set_limit(replay ? SIZE_MAX : config.max_sample_memory);
  sessions->SetMaxSessions(config.max_sessions);
}

void Reload(const StartOptions& options, BrokerClient* broker, Config* config,
            SessionTable* sessions) {
  const absl::StatusOr<Config> wanted = LoadConfig(options, broker);
  if (!wanted.ok()) {
    LogLines(LogLevel::kError, wanted.status().message());
    Log(LogLevel::kError, "not reloaded: all settings stay as they were");
    return;
  }
  std::vector<std::string> told;
  *config = Reloaded(*config, *wanted, &told);
  ApplyAtRunTime(*config, options.replay, sessions);
  Log(LogLevel::kInfo, told.empty() ? "reloaded: nothing has changed" : "reloaded");
  for (const std::string& line : told) Log(LogLevel::kInfo, line);
}

// Where sessions are left to the next engine; nullptr: nowhere.
std::unique_ptr<SessionJournal> OpenJournal(const EngineStart& start) {
  if (start.journal < 0) return nullptr;
  const absl::StatusOr<std::span<std::byte>> memory = MapJournalMemory(start.journal);
  if (!memory.ok()) {
    Log(LogLevel::kError, memory.status().message());
    return nullptr;
  }
  return std::make_unique<SessionJournal>(*memory);
}

// Whether the engine before ended by a mistake of its own; somebody else sends SIGKILL.
bool Crashed(const EngineStart& start) {
  return WIFEXITED(start.last_end) ||
         (WIFSIGNALED(start.last_end) && WTERMSIG(start.last_end) != SIGKILL);
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

// The files of the TLS endpoint are for root only.
std::function<absl::StatusOr<int>(TlsFile)> TlsFiles(BrokerClient* broker) {
  return [broker](TlsFile file) -> absl::StatusOr<int> {
    const BrokerClient::Reply reply =
        broker->Ask({.call = BrokerCall::kOpenTlsFile, .flags = static_cast<uint64_t>(file)});
    if (reply.fd >= 0) return reply.fd;
    return absl::ErrnoToStatus(reply.error != 0 ? reply.error : EMFILE, "cannot be read");
  };
}

// A recording's one client has a socket that this process opens itself.
absl::StatusOr<Servers> Serve(const Config& config, const GivenSockets& given, BrokerClient* broker,
                              const Served& of) {
  Servers servers;
  const bool replay = broker == nullptr;
  std::optional<TlsEndpoint> remote;
  if (given.tls >= 0) {
    absl::StatusOr<TlsEndpoint> made = MakeTlsEndpoint(given.tls, TlsFiles(broker));
    if (!made.ok()) return made.status();
    remote = *std::move(made);
  }
  absl::StatusOr<std::unique_ptr<Server>> requests =
      replay ? Server::Listen(config.socket, kOwnerOnly, of.service, of.history, of.authenticator)
             : Server::Serve(given.requests, "", of.service, of.history, of.authenticator,
                             std::move(remote));
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
    servers.metrics = std::make_unique<MetricsServer>(given.metrics, [service = of.service] {
      v1::DaemonStats stats;
      service->DescribeDaemon({.role = Role::kAdmin}, &stats);
      return MetricsText(stats);
    });
  }
  return servers;
}

// Its process, whose end would be this one's; -1: there is none.
pid_t BrokerOf(const BrokerClient* broker) { return broker != nullptr ? getppid() : -1; }

using Notify = std::function<void(absl::string_view)>;

MainLoopDuties Duties(const StartOptions& options, BrokerClient* broker, const Notify& notify,
                      bool can_be_started_again, Config* config, SessionTable* sessions,
                      FlowTable* flows, RequestActivity* activity) {
  return {
      .watchdog = options.replay ? absl::InfiniteDuration() : WatchdogInterval(),
      .notify = notify,
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
          [config, flows, broker = BrokerOf(broker),
           budget = CpuBudget(std::thread::hardware_concurrency()),
           before = uint32_t{1}]() mutable {
            const uint32_t slow_down =
                budget.Next(CpuTime() + CpuTimeOf(broker), absl::Now(), config->max_cpu);
            flows->SlowDown(slow_down);
            if (slow_down == std::exchange(before, slow_down)) return;
            Log(LogLevel::kInfo,
                slow_down == 1
                    ? "within the CPU budget: sessions are sampled as they asked"
                    : absl::StrCat("CPU budget (max-cpu): shared events are sampled at 1/",
                                   slow_down, " of the rates asked for"));
          },
      .reload = [&options, broker, config, sessions] { Reload(options, broker, config, sessions); },
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
int RunEngine(const StartOptions& options, const EngineStart& start, BrokerClient* broker,
              const Notify& notify) {
  std::optional<Config> config = LoadConfigAtStart(options, broker);
  if (!config.has_value()) return 2;
  // Before any thread starts, so that none of them gets them instead.
  BlockMainLoopSignals();
  PeerTable::MakeRoom();
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
  TaskTable tasks(options.replay ? kReplayContexts : config->max_contexts);
  Audit audit(!options.replay);  // before the sessions, whose ends it tells of
  // Who an engine is says nothing of who runs the daemon.
  const AdminPolicy policy = broker == nullptr ? Authenticator::PolicyOfMachine()
                                               : AdminPolicy{.daemon_uid = start.daemon_uid,
                                                             .admin_group = start.admin_group};
  absl::StatusOr<CertificateRoles> certificates =
      CertificateRoles::Parse(config->tls_admins, config->tls_users);
  if (!certificates.ok()) {
    Log(LogLevel::kError, absl::StrCat("tls-admins, tls-users: ", certificates.status().message()));
    return 2;
  }
  Authenticator authenticator(policy, {}, *std::move(certificates));
  // Before the sessions too: what they find until their end goes there.
  std::string no_history;
  const std::unique_ptr<History> history =
      OpenHistory(*config, options.replay, &kernel, &no_history);
  // Before the sessions, which have their entries in the one and their shares in the other.
  const std::unique_ptr<SessionJournal> journal = OpenJournal(start);
  FlowTable flows(&kernel, &admission, &binaries, &tasks, config->linger);
  SessionTable sessions;
  ApplyAtRunTime(*config, options.replay, &sessions);
  ProfilerService service(&kernel, &admission, &binaries, &sessions, &tasks, &flows, &audit,
                          &authenticator, UserLimits::ForCpus(std::thread::hardware_concurrency()),
                          options.replay);
  service.set_history(history.get(), no_history);
  service.set_broker(BrokerOf(broker));
  HistoryService history_service(history.get(), no_history, &authenticator);
  // What the engine before left goes on before anybody is served: who asks finds it.
  std::optional<FiguresKeeper> figures_keeper;
  if (journal != nullptr) {
    const uint64_t crashes =
        journal->BeginLife(kernel.Now(), start.restarts != 0 && Crashed(start));
    service.GoOn(journal.get(), DescribeEnd(start.last_end), start.restarts, crashes);
    figures_keeper.emplace(&sessions);
  }
  std::optional<ContinuousSession> continuous;
  if (history != nullptr && config->continuous) {
    continuous.emplace(&sessions, [&service](const v1::CreateSessionRequest& request) {
      return service.Create(request);
    });
    service.set_continuous(&*continuous);
  }
  absl::StatusOr<Servers> servers = Serve(*config, start.sockets, broker,
                                          {.service = &service,
                                           .history = &history_service,
                                           .sessions = &sessions,
                                           .authenticator = &authenticator,
                                           .audit = &audit});
  if (!servers.ok()) {
    Log(LogLevel::kError, servers.status().message());
    return 1;
  }
  if (!options.replay) {
    Log(LogLevel::kInfo, start.sockets_given
                             ? std::string("listening on the sockets systemd opened")
                             : absl::StrCat("listening on ", config->socket));
    if (start.sockets.tls >= 0) Log(LogLevel::kInfo, "serving other machines, by mutual TLS");
  }
  if (continuous.has_value()) continuous->Start();
  const std::string why = RunMainLoop(
      Duties(options, broker, notify, start.sockets_given, &*config, &sessions, &flows, &activity));
  // A recording's daemon has nothing to finish, and may be waiting for a file from far away.
  if (options.replay) _exit(0);
  notify("STOPPING=1\nSTATUS=stopping");
  Log(LogLevel::kInfo, absl::StrCat("stopping: ", why));
  servers->metrics.reset();
  // Sessions first: their streams then end in order, each with its last message.
  if (continuous.has_value()) continuous->Stop();
  sessions.StopAll();
  servers->requests->Shutdown(absl::Now() + absl::Seconds(2));
  return 0;
}

// What a burst needed goes back to the kernel: by itself, glibc keeps twice the largest buffer that
// was ever freed, in each of eight arenas a CPU. But some megabytes come and go with each binary,
// for its symbols and rules: they stay, since a page that is had anew costs more than what is
// written into it.
void KeepLittleFreeMemory() {
  constexpr int kKept = 4 << 20;  // at the end of each arena, and of buffers the largest in one
  mallopt(M_TRIM_THRESHOLD, kKept);
  mallopt(M_MMAP_THRESHOLD, kKept);
  mallopt(M_ARENA_MAX, 4);
}

}  // namespace

int EngineMain(const StartOptions& options) {
  KeepLittleFreeMemory();
  prctl(PR_SET_NAME, "lbrd-engine");
  const absl::StatusOr<EngineStart> start = ReceiveEngineStart(options.engine_channel);
  if (!start.ok()) {
    Log(LogLevel::kError, start.status().message());
    return 1;
  }
  if (absl::Status closed = EnterSandbox(); !closed.ok()) {
    Log(LogLevel::kError, closed.message());
    return 1;
  }
  fcntl(options.engine_channel, F_SETFD, FD_CLOEXEC);
  BrokerClient broker(options.engine_channel);
  const auto notify = [&broker](absl::string_view message) {
    broker.Ask({.call = BrokerCall::kNotify, .payload = message});
  };
  return RunEngine(options, *start, &broker, notify);
}

int ReplayMain(const StartOptions& options) {
  RaiseDescriptorLimit();
  // A private daemon dies with the client that started it, and is nobody's service. It has no
  // privileges beyond its client's: there is nothing to split.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  const auto notify = [ready =
                           ReadyDescriptor(options.ready_fd)](absl::string_view message) mutable {
    if (message == kReady) ready.Tell();
  };
  return RunEngine(options, {}, nullptr, notify);
}

}  // namespace lbrd::daemon
