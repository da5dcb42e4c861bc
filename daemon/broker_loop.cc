#include "daemon/broker_loop.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/broker.h"
#include "daemon/log.h"
#include "daemon/systemd.h"

namespace lbrd::daemon {
namespace {

class BrokerLoop {
 public:
  explicit BrokerLoop(BrokerSetup setup)
      : setup_(std::move(setup)),
        broker_({.config_path = setup_.config_path,
                 .tls_files = setup_.tls_files,
                 .notify = [this](absl::string_view message) { Notify(message); }}) {}
  ~BrokerLoop() {
    if (signals_ >= 0) close(signals_);
    if (engine_.channel >= 0) close(engine_.channel);
  }

  int Run() {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&wanted, number);
    sigprocmask(SIG_BLOCK, &wanted, nullptr);
    signals_ = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) {
      Log(LogLevel::kError, "cannot make a signalfd");
      return 1;
    }
    while (!exit_code_.has_value()) {
      if (engine_.pid < 0 && absl::Now() >= next_start_) Start();
      if (exit_code_.has_value()) break;
      pollfd entries[2] = {{signals_, POLLIN, 0}, {engine_.channel, POLLIN, 0}};
      if (poll(entries, 2, Timeout()) < 0 && errno != EINTR) return 1;
      if (entries[1].revents != 0 && !broker_.Serve(engine_.channel)) {
        // Its end will be told by SIGCHLD. One that lives on without its channel is of no use.
        close(std::exchange(engine_.channel, -1));
        kill_at_ = std::min(kill_at_, absl::Now() + kEndPatience);
      }
      signalfd_siginfo signal;
      while (read(signals_, &signal, sizeof(signal)) == sizeof(signal)) {
        Handle(static_cast<int>(signal.ssi_signo));
      }
      if (engine_.pid > 0 && absl::Now() >= kill_at_) {
        Log(LogLevel::kError, "the engine does not end: killing it");
        kill(engine_.pid, SIGKILL);
        kill_at_ = absl::InfiniteFuture();
      }
    }
    return *exit_code_;
  }

 private:
  int Timeout() const {
    absl::Time next = absl::InfiniteFuture();
    if (engine_.pid < 0) next = next_start_;
    if (engine_.pid > 0) next = std::min(next, kill_at_);
    if (next == absl::InfiniteFuture()) return -1;
    const absl::Duration left = std::clamp(next - absl::Now(), absl::ZeroDuration(), kMostPause);
    return 1 + static_cast<int>(absl::ToInt64Milliseconds(left));
  }

  void Notify(absl::string_view message) {
    NotifySystemd(message);
    if (!absl::StrContains(message, "READY=1")) return;
    was_ready_ = true;
    setup_.ready.Tell();
  }

  void Start() {
    const absl::StatusOr<EngineProcess> started = StartEngine(setup_.user, setup_.arguments);
    if (!started.ok()) {
      Log(LogLevel::kError, started.status().message());
      if (!was_ready_) {
        exit_code_ = 1;
      } else {
        next_start_ = absl::Now() + kMostPause;
      }
      return;
    }
    engine_ = *started;
    kill_at_ = absl::InfiniteFuture();
    started_at_ = absl::Now();
    if (!SendEngineStart(engine_.channel, setup_.start)) {
      Log(LogLevel::kError, "cannot tell the engine what to serve");
      kill(engine_.pid, SIGKILL);
    }
  }

  void Handle(int number) {
    switch (number) {
      case SIGCHLD:
        Reap();
        return;
      case SIGHUP:
        if (engine_.pid > 0) kill(engine_.pid, SIGHUP);
        return;
      default:
        if (engine_.pid < 0) {
          exit_code_ = 0;
          return;
        }
        kill(engine_.pid, SIGTERM);
        if (!stopping_) kill_at_ = absl::Now() + kStopPatience;
        stopping_ = true;
    }
  }

  void Reap() {
    int status = 0;
    if (engine_.pid < 0 || waitpid(engine_.pid, &status, WNOHANG) != engine_.pid) return;
    engine_.pid = -1;
    // What it asked last, such as to tell systemd that it stops, was sent before it ended.
    while (engine_.channel >= 0 && broker_.Serve(engine_.channel)) {
    }
    if (engine_.channel >= 0) close(std::exchange(engine_.channel, -1));
    broker_.Forget();
    const bool by_itself = WIFEXITED(status);
    // Asked to end before it listened for it, it ends all the same.
    const bool as_asked = stopping_ && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    const int code = by_itself ? WEXITSTATUS(status) : as_asked ? 0 : 1;
    if (stopping_ || (by_itself && code == 0) || !was_ready_) {
      if (!by_itself && !stopping_) {
        Log(LogLevel::kError,
            absl::StrCat("the engine ended before it was ready: ", DescribeEnd(status)));
      }
      exit_code_ = code == 127 ? 1 : code;
      return;
    }
    Restart(status);
  }

  void Restart(int status) {
    const absl::Duration lived = absl::Now() - started_at_;
    short_lives_ = lived < kShortLife ? short_lives_ + 1 : 0;
    const absl::Duration pause = PauseAfter(short_lives_);
    next_start_ = absl::Now() + pause;
    ++setup_.start.restarts;
    setup_.start.last_end = status;
    Log(LogLevel::kError,
        absl::StrCat(
            "the engine has ended (", DescribeEnd(status), ") after ",
            absl::FormatDuration(absl::Trunc(lived, absl::Milliseconds(1))),
            ": starting another one",
            pause == absl::ZeroDuration() ? "" : absl::StrCat(" in ", absl::FormatDuration(pause)),
            ", restart ", setup_.start.restarts));
    NotifySystemd("STATUS=the engine has died; another one is being started");
  }

  BrokerSetup setup_;
  Broker broker_;
  int signals_ = -1;
  EngineProcess engine_;
  absl::Time started_at_;
  absl::Time next_start_ = absl::InfinitePast();
  int short_lives_ = 0;
  bool was_ready_ = false;  // an engine has been
  bool stopping_ = false;
  absl::Time kill_at_ = absl::InfiniteFuture();
  std::optional<int> exit_code_;
};

}  // namespace

absl::Duration PauseAfter(int short_lives) {
  if (short_lives <= 0) return absl::ZeroDuration();
  const int doublings = std::min(short_lives - 1, 10);
  return std::min(kMostPause, kLeastPause * (1 << doublings));
}

int RunBroker(BrokerSetup setup) { return BrokerLoop(std::move(setup)).Run(); }

}  // namespace lbrd::daemon
