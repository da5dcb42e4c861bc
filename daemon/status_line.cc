#include "daemon/status_line.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {

std::string WithThousands(uint64_t number) {
  std::string text = absl::StrCat(number);
  for (size_t from_end = 3; from_end < text.size(); from_end += 4) {
    text.insert(text.size() - from_end, 1, ',');
  }
  return text;
}

std::string StatusLine::Next(const std::map<std::string, uint64_t>& samples, absl::Time now) {
  uint64_t gained = 0;
  for (const auto& [session, count] : samples) {
    const auto before = before_.find(session);
    // A name may have been given again, to a session that counts from zero.
    const bool same = before != before_.end() && before->second <= count;
    gained += count - (same ? before->second : 0);
  }
  const absl::Duration passed = now - at_;
  before_ = samples;
  at_ = now;
  if (samples.empty()) return "no sessions";
  const std::string sessions =
      absl::StrCat(samples.size(), samples.size() == 1 ? " session" : " sessions");
  if (passed == absl::InfiniteDuration() || passed <= absl::ZeroDuration()) return sessions;
  const double rate = static_cast<double>(gained) / absl::ToDoubleSeconds(passed);
  return absl::StrCat(sessions, ", ", WithThousands(static_cast<uint64_t>(std::llround(rate))),
                      " samples/s");
}

}  // namespace lbrd::daemon
