#include "daemon/history_flags.h"

#include <CLI/CLI.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

// "512M"; 0: it is no size.
uint64_t ParseSize(absl::string_view text) {
  uint64_t unit = 1;
  for (const auto& [letter, bytes] : {std::pair('K', 10), std::pair('M', 20), std::pair('G', 30)}) {
    if (text.empty() || text.back() != letter) continue;
    unit = uint64_t{1} << bytes;
    text.remove_suffix(1);
    break;
  }
  uint64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value > (uint64_t{1} << 44) / unit) return 0;
  return value * unit;
}

// "7d", "12h", "1h30m"; zero: it is no time.
absl::Duration ParseAge(const std::string& text) {
  absl::Duration duration;
  int64_t days = 0;
  if (!text.empty() && text.back() == 'd' &&
      absl::SimpleAtoi(text.substr(0, text.size() - 1), &days) && days > 0 && days < 36500) {
    return absl::Hours(24) * days;
  }
  return absl::ParseDuration(text, &duration) ? duration : absl::ZeroDuration();
}

}  // namespace

void HistoryFlags::AddTo(CLI::App& app) {
  app.add_option("--history", path,
                 "the history's file (default: /var/lib/lbrd/history.db); its folder is made");
  app.add_option("--history-bytes", bytes,
                 "what it may take on the disk, at least 16M (default: 512M);\n"
                 "beyond that the oldest goes");
  app.add_option("--history-age", age, "how long it goes back, e.g. 12h or 30d (default: 7d)");
  app.add_option("--history-bucket", bucket,
                 "how finely it tells times apart, 1s to 5m (default: 10s)");
  app.add_flag("--no-history", off, "keep none, and sample nothing that nobody asks for");
  app.add_flag("--no-continuous", no_continuous,
               "keep a history of retained sessions only, without the daemon's own\n"
               "session of the whole machine at 19 Hz");
}

absl::StatusOr<HistoryOptions> HistoryFlags::ToOptions() const {
  HistoryOptions options;
  if (!path.empty()) options.path = path;
  if (!bytes.empty()) {
    options.max_bytes = ParseSize(bytes);
    if (options.max_bytes < HistoryWriter::kLeastBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("--history-bytes: '", bytes, "' is not a size such as 512M, at least 16M"));
    }
  }
  if (!age.empty()) {
    options.max_age = ParseAge(age);
    if (options.max_age < absl::Minutes(1) || options.max_age > absl::Hours(24 * 36500)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--history-age: '", age, "' is not a time such as 12h or 30d"));
    }
  }
  if (!bucket.empty()) {
    options.bucket = ParseAge(bucket);
    if (options.bucket < absl::Seconds(1) || options.bucket > absl::Minutes(5)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--history-bucket: '", bucket, "' is not a time from 1s to 5m"));
    }
  }
  return options;
}

}  // namespace lbrd::daemon
