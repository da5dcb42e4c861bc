#include "daemon/history_gaps.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

// Fills in why nothing is known of the gap. False: it is too short to be worth a word.
bool Explain(const std::vector<HistoryRun>& runs, const std::vector<HistoryGap>& losses,
             HistoryGap* gap) {
  for (const HistoryGap& loss : losses) {
    if (loss.begin_ns >= gap->end_ns || loss.end_ns <= gap->begin_ns) continue;
    gap->samples += loss.samples;
    gap->why = absl::StrCat("could not be stored: ", loss.why);
  }
  if (!gap->why.empty()) return true;
  const HistoryRun* before = nullptr;  // the last that began before the gap's end
  const HistoryRun* last = nullptr;    // and before its beginning
  for (const HistoryRun& run : runs) {
    if (run.begin_ns < gap->end_ns) before = &run;
    if (run.begin_ns < gap->begin_ns) last = &run;
  }
  if (before != last) {
    gap->why = last == nullptr ? "lbrd did not run"
               : last->clean   ? "lbrd was stopped and started again"
                             : "lbrd was killed and started again; what it had not stored is lost";
    return true;
  }
  gap->why = "no session recorded";
  return gap->end_ns - gap->begin_ns >= kLeastHistoryGapNs;
}

}  // namespace

std::vector<HistoryGap> FindHistoryGaps(int64_t since_ns, int64_t until_ns,
                                        std::vector<std::pair<int64_t, int64_t>> covered,
                                        const std::vector<HistoryRun>& runs,
                                        const std::vector<HistoryGap>& losses) {
  std::sort(covered.begin(), covered.end());
  covered.emplace_back(until_ns, until_ns);
  std::vector<HistoryGap> gaps;
  int64_t known_until = since_ns;
  for (const auto& [begin, end] : covered) {
    if (begin > known_until) {
      HistoryGap gap{.begin_ns = known_until, .end_ns = std::min(begin, until_ns)};
      if (gap.end_ns > gap.begin_ns && Explain(runs, losses, &gap)) gaps.push_back(std::move(gap));
    }
    known_until = std::max(known_until, end);
  }
  return gaps;
}

}  // namespace lbrd::daemon
