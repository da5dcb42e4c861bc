// Where the history has nothing to say of a time, and why.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "daemon/history_query.h"

namespace lbrd::daemon {

// A run of the daemon. Times are Unix time in ns.
struct HistoryRun {
  int64_t begin_ns = 0;
  int64_t last_ns = 0;  // the end of the last bucket that it stored
  bool clean = false;   // it said that it ended
};

// Shorter ones are between two buckets and no news, unless a run begins in them.
inline constexpr int64_t kLeastHistoryGapNs = 2'000'000'000;

// The parts of [since, until) that none of `covered` (begin, end) covers, in time order. `runs` in
// the order of their beginnings, the one before `since` among them; `losses` in any order.
std::vector<HistoryGap> FindHistoryGaps(int64_t since_ns, int64_t until_ns,
                                        std::vector<std::pair<int64_t, int64_t>> covered,
                                        const std::vector<HistoryRun>& runs,
                                        const std::vector<HistoryGap>& losses);

}  // namespace lbrd::daemon
