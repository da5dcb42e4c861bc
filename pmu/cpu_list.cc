#include "pmu/cpu_list.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::pmu {

absl::StatusOr<std::vector<int32_t>> ParseCpuList(absl::string_view text) {
  std::vector<int32_t> cpus;
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) return cpus;
  // Ranges, not CPUs, are collected: a list may repeat the longest range any number of times.
  std::vector<std::pair<int32_t, int32_t>> ranges;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> range =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int32_t first = 0;
    int32_t last = 0;
    const bool single = part.find('-') == absl::string_view::npos;
    if (!absl::SimpleAtoi(range.first, &first) ||
        !absl::SimpleAtoi(single ? range.first : range.second, &last) || first < 0 ||
        last < first || last > kMaxCpu) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", part, "' is not a CPU or a range of CPUs such as 0-3"));
    }
    ranges.emplace_back(first, last);
  }
  std::sort(ranges.begin(), ranges.end());
  int32_t next = 0;
  for (const auto& [first, last] : ranges) {
    for (next = std::max(next, first); next <= last; ++next) cpus.push_back(next);
  }
  return cpus;
}

}  // namespace lbrd::pmu
