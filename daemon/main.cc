// lbrd: the daemon.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/continuous_session.h"
#include "daemon/descriptor_server.h"
#include "daemon/history.h"
#include "daemon/history_flags.h"
#include "daemon/history_service.h"
#include "daemon/log.h"
#include "daemon/profiler_service.h"
#include "daemon/server.h"
#include "daemon/session_table.h"
#include "daemon/target_files.h"
#include "daemon/task_table.h"
#include "pmu/admission.h"
#include "pmu/admission_limits.h"
#include "pmu/linux_kernel.h"

namespace lbrd::daemon {
namespace {

// A recording may tell of any number of threads.
constexpr size_t kReplayContexts = size_t{1} << 16;
constexpr char kDefaultSocket[] = "/run/lbrd/lbrd.sock";

struct Flags {
  std::string socket = kDefaultSocket;
  bool replay = false;
  int ready_fd = -1;
  bool verbose = false;
  HistoryFlags history;
};

// Every event, every mapped binary and every client is a descriptor.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Why there is none goes to *why_none, and to the log: sessions are worth having without one.
std::unique_ptr<History> OpenHistory(const Flags& flags, pmu::Kernel* kernel,
                                     const HistoryOptions& options, std::string* why_none) {
  if (flags.replay || flags.history.off) {
    *why_none = "this daemon keeps no history (--no-history)";
    return nullptr;
  }
  absl::StatusOr<std::unique_ptr<History>> history = History::Open(kernel, options);
  if (history.ok()) return *std::move(history);
  *why_none =
      absl::StrCat("this daemon keeps no history: ", std::string(history.status().message()));
  Log(LogLevel::kError, *why_none);
  return nullptr;
}

int Run(const Flags& flags) {
  const absl::StatusOr<HistoryOptions> history_options = flags.history.ToOptions();
  if (!history_options.ok()) {
    Log(LogLevel::kError, history_options.status().message());
    return 2;
  }
  if (flags.verbose) SetLogLevel(LogLevel::kDebug);
  RaiseDescriptorLimit();
  if (!flags.replay && geteuid() != 0) {
    Log(LogLevel::kError,
        "must run as root to open the machine's perf events; try: sudo lbrd "
        "(lbrctl report --input reads recordings without root)");
    return 1;
  }
  // Waited for below; blocked before any thread starts, so that none of them gets it instead.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // A file that may not grow further is an error like a full disk.
  signal(SIGXFSZ, SIG_IGN);
  // Debian's build of absl looks for deadlocks at run time, at four times the price of a lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // A private daemon dies with the client that started it.
  if (flags.replay) prctl(PR_SET_PDEATHSIG, SIGTERM);

  pmu::LinuxKernel kernel;
  TargetFiles files;
  unwind::BinaryCache binaries(&files);
  pmu::Admission admission(pmu::DetectAdmissionLimits(kernel));
  // Before the sessions, which give their contexts back when they end.
  TaskTable tasks(flags.replay ? kReplayContexts : TaskTable::kDefaultMaxContexts);
  // Before the sessions too: what they find until their end goes there.
  std::string no_history;
  const std::unique_ptr<History> history =
      OpenHistory(flags, &kernel, *history_options, &no_history);
  SessionTable sessions;
  ProfilerService service(&kernel, &admission, &binaries, &sessions, &tasks, flags.replay);
  service.set_history(history.get(), no_history);
  HistoryService history_service(history.get(), no_history);
  std::optional<ContinuousSession> continuous;
  if (history != nullptr && !flags.history.no_continuous) {
    continuous.emplace(&sessions, [&service](const v1::CreateSessionRequest& request) {
      return service.Create(request);
    });
    service.set_continuous(&*continuous);
  }
  absl::StatusOr<std::unique_ptr<Server>> server =
      Server::Listen(flags.socket, &service, &history_service);
  if (!server.ok()) {
    Log(LogLevel::kError, server.status().message());
    return 1;
  }
  std::unique_ptr<DescriptorServer> descriptors;
  if (!flags.replay) {
    absl::StatusOr<std::unique_ptr<DescriptorServer>> listening =
        DescriptorServer::Listen(flags.socket + ".fd", &sessions);
    if (!listening.ok()) {
      Log(LogLevel::kError, listening.status().message());
      return 1;
    }
    descriptors = *std::move(listening);
    Log(LogLevel::kInfo, absl::StrCat("listening on ", flags.socket));
  }
  if (continuous.has_value()) continuous->Start();
  if (flags.ready_fd >= 0) {
    const char ready = '\n';
    if (write(flags.ready_fd, &ready, 1) != 1) return 1;
    close(flags.ready_fd);
  }

  int signal_number = 0;
  sigwait(&signals, &signal_number);
  if (!flags.replay) {
    Log(LogLevel::kInfo, absl::StrCat("stopping on SIG", sigabbrev_np(signal_number)));
  }
  // Sessions first: their streams then end in order, each with its last message.
  if (continuous.has_value()) continuous->Stop();
  sessions.StopAll();
  (*server)->Shutdown(absl::Now() + absl::Seconds(2));
  return 0;
}

}  // namespace
}  // namespace lbrd::daemon

int main(int argc, char** argv) {
  lbrd::daemon::Flags flags;
  CLI::App app{
      "lbrd owns this machine's Last Branch Records and perf events and lends them out.\n"
      "It serves lbrctl on a UNIX socket until SIGTERM or Ctrl-C."};
  app.name("lbrd");
  app.set_version_flag("--version", "lbrd " LBRD_VERSION);
  app.add_option("--socket", flags.socket, "UNIX socket to listen on")->capture_default_str();
  app.add_flag("-v,--verbose", flags.verbose, "log more");
  app.add_flag("--replay", flags.replay,
               "read a perf.data recording for one client instead of profiling this machine;\n"
               "needs no root (lbrctl report starts it so)");
  app.add_option("--ready-fd", flags.ready_fd,
                 "write a newline to this descriptor once the socket is served");
  flags.history.AddTo(app);
  app.footer(
      "Then, in another terminal:\n"
      "  lbrctl record -a -d 10s -o flamegraph.svg");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return lbrd::daemon::Run(flags);
}
