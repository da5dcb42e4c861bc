#include "daemon/log.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

LogLevel max_level = LogLevel::kInfo;

}  // namespace

void SetLogLevel(LogLevel level) { max_level = level; }

void Log(LogLevel level, absl::string_view line) {
  if (level > max_level) return;
  static const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  const std::string text = journal ? absl::StrCat("<", static_cast<int>(level), ">", line, "\n")
                                   : absl::StrCat("lbrd: ", line, "\n");
  // Nowhere is left to complain to when this fails.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace lbrd::daemon
