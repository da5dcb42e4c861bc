#include "daemon/log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::daemon {
namespace {

std::atomic<LogLevel> max_level = LogLevel::kInfo;

}  // namespace

void SetLogLevel(LogLevel level) { max_level.store(level, std::memory_order_relaxed); }

bool IsJournal(int fd, const char* journal_stream) {
  struct stat status;
  // A descriptor that was redirected since is another file.
  return journal_stream != nullptr && fstat(fd, &status) == 0 &&
         absl::StrCat(status.st_dev, ":", status.st_ino) == journal_stream;
}

std::string FormatLogLine(LogLevel level, absl::string_view line, bool journal) {
  std::string text =
      journal ? absl::StrCat("<", static_cast<int>(level), ">") : std::string("lbrd: ");
  for (const char c : line) {
    text.push_back(absl::ascii_iscntrl(static_cast<unsigned char>(c)) ? '?' : c);
  }
  text.push_back('\n');
  return text;
}

void Log(LogLevel level, absl::string_view line) {
  if (level > max_level.load(std::memory_order_relaxed)) return;
  static const bool journal = IsJournal(STDERR_FILENO, std::getenv("JOURNAL_STREAM"));
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  // There lbrctl, which shares it with the daemon that reads a recording, may have drawn its bar.
  const std::string text =
      absl::StrCat(terminal ? "\r\x1b[K" : "", FormatLogLine(level, line, journal));
  // Nowhere is left to complain to when this fails.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

void LogLines(LogLevel level, absl::string_view lines) {
  for (const absl::string_view line : absl::StrSplit(lines, '\n')) Log(level, line);
}

}  // namespace lbrd::daemon
