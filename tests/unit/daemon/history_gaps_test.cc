#include "daemon/history_gaps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "history_files.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;

using Span = std::pair<int64_t, int64_t>;
constexpr int64_t kS = kSecond;

TEST(FindHistoryGaps, NoneWhereBucketsMeetOrOverlap) {
  const std::vector<HistoryRun> runs = {{0, 40 * kS, false}};
  EXPECT_TRUE(FindHistoryGaps(5 * kS, 35 * kS,
                              {Span(20 * kS, 40 * kS), Span(0, 12 * kS), Span(10 * kS, 20 * kS)},
                              runs, {})
                  .empty());
}

TEST(FindHistoryGaps, TellsARestartAfterAKillFromOneThatWasMeant) {
  for (const bool clean : {false, true}) {
    const std::vector<HistoryRun> runs = {{0, 10 * kS, clean}, {17 * kS, 30 * kS, false}};
    const auto gaps =
        FindHistoryGaps(0, 30 * kS, {Span(0, 10 * kS), Span(18 * kS, 30 * kS)}, runs, {});
    ASSERT_EQ(gaps.size(), 1u);
    EXPECT_EQ(gaps[0].begin_ns, 10 * kS);
    EXPECT_EQ(gaps[0].end_ns, 18 * kS);
    EXPECT_THAT(gaps[0].why, HasSubstr(clean ? "stopped" : "killed"));
  }
}

TEST(FindHistoryGaps, AShortOneIsToldWhereTheDaemonWasKilledAndElseNot) {
  const std::vector<Span> covered = {Span(0, 10 * kS), Span(11 * kS, 30 * kS)};
  EXPECT_TRUE(FindHistoryGaps(0, 30 * kS, covered, {{0, 30 * kS, false}}, {}).empty());
  const std::vector<HistoryRun> killed = {{0, 10 * kS, false}, {10 * kS + 1, 30 * kS, false}};
  EXPECT_EQ(FindHistoryGaps(0, 30 * kS, covered, killed, {}).size(), 1u);
}

TEST(FindHistoryGaps, OfARunThatGoesOnSaysThatNobodyRecorded) {
  const auto gaps = FindHistoryGaps(0, 30 * kS, {Span(0, 10 * kS), Span(20 * kS, 25 * kS)},
                                    {{0, 30 * kS, false}}, {});
  ASSERT_EQ(gaps.size(), 2u);
  EXPECT_THAT(gaps[0].why, HasSubstr("no session"));
  EXPECT_EQ(gaps[1].end_ns, 30 * kS) << "to the end";
}

TEST(FindHistoryGaps, LossesAreCountedWhereTheyWere) {
  const auto gaps =
      FindHistoryGaps(0, 30 * kS, {Span(0, 10 * kS), Span(20 * kS, 30 * kS)}, {{0, 30 * kS, false}},
                      {{11 * kS, 15 * kS, 7, "no room"}, {21 * kS, 22 * kS, 5, "elsewhere"}});
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_EQ(gaps[0].samples, 7u);
  EXPECT_THAT(gaps[0].why, HasSubstr("no room"));
}

}  // namespace
}  // namespace lbrd::daemon
