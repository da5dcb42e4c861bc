// What the daemon's first thread does while others serve: waits for signals, tells systemd how the
// daemon is, and decides when it ends.
//
//   SIGTERM, SIGINT   ends
//   SIGHUP            reloads
//   every tick        the CPU budget; status line; WATCHDOG=1 if the daemon is well; ends after
//   idle time
//
// The watchdog is fed by this thread alone, and only when `health` says so: if this thread hangs,
// or one that does the daemon's work, systemd restarts the daemon.
//
// Thread rules: the first thread; the signals are blocked in all.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lbrd::daemon {

// The first message.
inline constexpr char kReady[] = "READY=1";

struct MainLoopDuties {
  absl::Duration watchdog = absl::InfiniteDuration();  // as systemd wants it
  // How systemd hears of it: a message of sd_notify(3).
  std::function<void(absl::string_view message)> notify;
  std::function<absl::Status()> health;
  std::function<std::string()> status;  // a line for systemctl status
  std::function<void()> keep_budget;
  std::function<void()> reload;
  // How long nobody has wanted anything, and after how long the daemon ends for it; zero: never.
  std::function<bool()> busy;
  std::function<absl::Duration()> exit_idle;
};

// Blocks the signals that RunMainLoop() waits for. Before any thread starts.
void BlockMainLoopSignals();
// Returns why it ends: "SIGTERM", "idle for 10m".
std::string RunMainLoop(const MainLoopDuties& duties);

}  // namespace lbrd::daemon
