// What the daemon has to say, on standard error: a line each, with a level that journald
// understands when it is the one listening.
#pragma once

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

enum class LogLevel { kError = 3, kWarning = 4, kInfo = 6, kDebug = 7 };  // as in syslog(3)

// Lines less important than this are left out; kInfo at first. Before threads start.
void SetLogLevel(LogLevel level);
// Thread-safe; one write per line.
void Log(LogLevel level, absl::string_view line);

}  // namespace lbrd::daemon
