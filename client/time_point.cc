#include "client/time_point.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lbrd::client {
namespace {

// 1970 to 2200: what fits everywhere.
constexpr int64_t kMaxSeconds = int64_t{230} * 365 * 24 * 3600;

bool ParseAgo(absl::string_view text, absl::Duration* ago) {
  int64_t days = 0;
  const size_t d = text.find('d');
  if (d != absl::string_view::npos) {
    if (!absl::SimpleAtoi(text.substr(0, d), &days) || days > 100'000) return false;
    text.remove_prefix(d + 1);
    *ago = absl::ZeroDuration();
    if (!text.empty() && !absl::ParseDuration(std::string(text), ago)) return false;
    *ago += absl::Hours(24) * days;
  } else if (!absl::ParseDuration(std::string(text), ago)) {
    return false;
  }
  return *ago >= absl::ZeroDuration() && *ago <= absl::Seconds(kMaxSeconds);
}

}  // namespace

absl::StatusOr<absl::Time> ParseTimePoint(absl::string_view text, absl::Time now,
                                          absl::TimeZone zone) {
  if (text == "now") return now;
  int64_t seconds = 0;
  if (absl::StartsWith(text, "@") && absl::SimpleAtoi(text.substr(1), &seconds) && seconds >= 0 &&
      seconds <= kMaxSeconds) {
    return absl::FromUnixSeconds(seconds);
  }
  absl::Duration ago;
  if (ParseAgo(text, &ago)) return now - ago;
  absl::Time time;
  std::string error;
  const std::string today = absl::FormatTime("%Y-%m-%d", now, zone);
  for (const char* format : {"%H:%M:%S", "%H:%M"}) {
    if (!absl::ParseTime(absl::StrCat("%Y-%m-%d ", format), absl::StrCat(today, " ", text), zone,
                         &time, &error)) {
      continue;
    }
    return time > now ? time - absl::Hours(24) : time;
  }
  for (const char* format : {"%Y-%m-%d%ET%H:%M:%S", "%Y-%m-%d%ET%H:%M", "%Y-%m-%d %H:%M:%S",
                             "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
    if (absl::ParseTime(format, text, zone, &time, &error) && time >= absl::UnixEpoch() &&
        time <= absl::FromUnixSeconds(kMaxSeconds)) {
      return time;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", text,
                   "' is not a time: use 10m, 2h or 3d (ago), 14:30, 2026-11-21, \"2026-11-21 "
                   "14:30\", @UNIX-SECONDS or now"));
}

}  // namespace lbrd::client
