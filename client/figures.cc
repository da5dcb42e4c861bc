#include "client/figures.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lbrd::client {

std::string FormatCount(uint64_t value) {
  const std::string digits = absl::StrCat(value);
  std::string out;
  out.reserve(digits.size() + digits.size() / 3);
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

std::string FormatCountOf(uint64_t value, absl::string_view noun) {
  return absl::StrCat(FormatCount(value), " ", noun, value == 1 ? "" : "s");
}

std::string FormatPercent(uint64_t part, uint64_t whole) {
  if (part == 0 || whole == 0) return "0.0%";
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  if (percent < 0.05) return "<0.1%";
  if (part < whole && percent >= 99.95) return "99.9%";
  return absl::StrFormat("%.1f%%", percent);
}

int64_t DurationNanos(const google::protobuf::Duration& duration) {
  constexpr int64_t kPerSecond = 1'000'000'000;
  constexpr int64_t kMaxSeconds = std::numeric_limits<int64_t>::max() / kPerSecond - 1;
  if (duration.seconds() < 0 || duration.nanos() < 0) return 0;
  if (duration.seconds() > kMaxSeconds || duration.nanos() >= kPerSecond) {
    return std::numeric_limits<int64_t>::max();
  }
  return duration.seconds() * kPerSecond + duration.nanos();
}

std::string FormatDuration(const google::protobuf::Duration& duration) {
  const double seconds = static_cast<double>(DurationNanos(duration)) / 1e9;
  if (seconds < 0.9995) return absl::StrFormat("%.0f ms", seconds * 1e3);
  if (seconds < 119.95) return absl::StrFormat("%.1f s", seconds);
  const int64_t whole = std::llround(seconds);
  if (whole < 2 * 3600) return absl::StrFormat("%d min %02d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %02d min", whole / 3600, whole / 60 % 60);
}

}  // namespace lbrd::client
