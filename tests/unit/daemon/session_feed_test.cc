#include "daemon/session_feed.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lbrd::daemon {
namespace {

// All counts but those of the source, one of which speaks for all (pmu/record_source_test). With a
// field more this does not compile: operator+= wants it as well.
std::vector<uint64_t*> CountsOf(FeedStats& stats) {
  auto& [source, dropped_queue_full, undecodable_samples, side_band_dropped, flow_samples, thinned,
         other_cpu, other_thread, other_process, other_comm, lbr_windows] = stats;
  std::vector<uint64_t*> all = {
      &source.samples, &dropped_queue_full, &undecodable_samples, &side_band_dropped, &flow_samples,
      &thinned,        &other_cpu,          &other_thread,        &other_process,     &other_comm};
  for (uint64_t& count : lbr_windows) all.push_back(&count);
  return all;
}

// Its counts are `first`, twice that, and so on: no sum of two is another's.
FeedStats MadeStats(uint64_t first) {
  FeedStats stats;
  uint64_t next = 0;
  for (uint64_t* count : CountsOf(stats)) *count = next += first;
  return stats;
}

TEST(FeedStatsTest, EachCountIsSummed) {
  FeedStats sum = MadeStats(1);
  sum += MadeStats(100);
  uint64_t expected = 0;
  for (const uint64_t* count : CountsOf(sum)) EXPECT_EQ(*count, expected += 101);
}

}  // namespace
}  // namespace lbrd::daemon
