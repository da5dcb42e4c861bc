#include "daemon/main_loop.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

// How old the status line may be. Idle daemons wake up no more often than this.
constexpr absl::Duration kTick = absl::Seconds(5);

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
  return signals;
}

// The signal that came, or 0 after `patience`.
int WaitForSignal(const sigset_t& signals, absl::Duration patience) {
  const timespec timeout = absl::ToTimespec(patience);
  const int number = sigtimedwait(&signals, nullptr, &timeout);
  return std::max(number, 0);
}

}  // namespace

void BlockMainLoopSignals() {
  const sigset_t signals = Signals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
}

std::string RunMainLoop(const MainLoopDuties& duties) {
  const sigset_t signals = Signals();
  // Three times in an interval, so that one late tick is no alarm.
  const absl::Duration tick = std::min(kTick, duties.watchdog / 3);
  bool was_well = true;
  absl::Time last_busy = absl::Now();
  duties.notify(kReady);
  while (true) {
    duties.keep_budget();
    const absl::Status health = duties.health();
    std::string message = absl::StrCat("STATUS=", duties.status());
    if (health.ok()) {
      absl::StrAppend(&message, "\nWATCHDOG=1");
    } else {
      message = absl::StrCat("STATUS=", health.message());
    }
    duties.notify(message);
    if (health.ok() != was_well) {
      Log(was_well ? LogLevel::kError : LogLevel::kInfo,
          was_well ? absl::StrCat(health.message(), "; not telling the watchdog that all is well")
                   : "all threads go on again");
      was_well = health.ok();
    }

    const absl::Duration exit_idle = duties.exit_idle();
    if (duties.busy()) last_busy = absl::Now();
    const absl::Duration idle = absl::Now() - last_busy;
    absl::Duration patience = tick;
    if (exit_idle > absl::ZeroDuration()) {
      if (idle >= exit_idle) return absl::StrCat("idle for ", absl::FormatDuration(exit_idle));
      patience = std::min(patience, exit_idle - idle);
    }
    switch (const int number = WaitForSignal(signals, patience)) {
      case 0:
        break;
      case SIGHUP:
        duties.notify("RELOADING=1");
        duties.reload();
        duties.notify(kReady);
        break;
      default:
        return absl::StrCat("SIG", sigabbrev_np(number));
    }
  }
}

}  // namespace lbrd::daemon
