// What the daemon has to say, on standard error: a line each. When that is the journal, each line
// has its priority in front, as sd-daemon(3) says.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

enum class LogLevel { kError = 3, kWarning = 4, kInfo = 6, kDebug = 7 };  // as in syslog(3)

// Lines less important than this are left out; kInfo at first. Thread-safe.
void SetLogLevel(LogLevel level);
// Thread-safe; one write per line. Control characters are shown as '?': what a client can put into
// a line must not make it two.
void Log(LogLevel level, absl::string_view line);
// The same for text of several lines.
void LogLines(LogLevel level, absl::string_view lines);

// The line as it is written.
std::string FormatLogLine(LogLevel level, absl::string_view line, bool journal);
// Whether the descriptor is the connection to the journal that $JOURNAL_STREAM (`DEVICE:INODE`,
// systemd.exec(5)) speaks of. nullptr: there is none.
bool IsJournal(int fd, const char* journal_stream);

}  // namespace lbrd::daemon
