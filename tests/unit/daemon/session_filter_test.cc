#include "daemon/session_filter.h"

#include <gtest/gtest.h>

namespace lbrd::daemon {
namespace {

pmu::SampleId At(int32_t pid, int32_t tid, uint32_t cpu = 0) {
  return {.pid = pid, .tid = tid, .cpu = cpu};
}

TEST(SessionFilterTest, AnEmptyFilterTakesAll) {
  EXPECT_EQ(SessionFilter({}).Judge(At(1, 2, 3), std::nullopt), LeftOut::kNot);
}

TEST(SessionFilterTest, SaysWhatDoesNotFit) {
  EXPECT_EQ(SessionFilter({.cpus = {1, 3}}).Judge(At(1, 1, 2), std::nullopt), LeftOut::kOtherCpu);
  EXPECT_EQ(SessionFilter({.cpus = {1, 3}}).Judge(At(1, 1, 3), std::nullopt), LeftOut::kNot);
  EXPECT_EQ(SessionFilter({.thread = 2}).Judge(At(1, 1), std::nullopt), LeftOut::kOtherThread);
  EXPECT_EQ(SessionFilter({.thread = 2}).Judge(At(1, 2), std::nullopt), LeftOut::kNot);
  EXPECT_EQ(SessionFilter({.uid = 7}).Judge(At(1, 1), 8), LeftOut::kOtherUser);
  EXPECT_EQ(SessionFilter({.uid = 7}).Judge(At(1, 1), std::nullopt), LeftOut::kOtherUser);
  EXPECT_EQ(SessionFilter({.uid = 7}).Judge(At(1, 1), 7), LeftOut::kNot);
}

TEST(SessionFilterTest, AProcessTreeGrowsByForks) {
  SessionFilter filter({.process = 10});
  EXPECT_EQ(filter.Judge(At(11, 11), std::nullopt), LeftOut::kOtherProcess);
  filter.Forked(11, 10);
  filter.Forked(12, 11);
  filter.Forked(21, 20);
  EXPECT_EQ(filter.Judge(At(10, 99), std::nullopt), LeftOut::kNot) << "a thread of it";
  EXPECT_EQ(filter.Judge(At(12, 12), std::nullopt), LeftOut::kNot) << "a grandchild";
  EXPECT_EQ(filter.Judge(At(21, 21), std::nullopt), LeftOut::kOtherProcess);
}

TEST(SessionFilterTest, APidGivenToAStrangerIsAMemberNoMore) {
  SessionFilter filter({.process = 10});
  filter.Forked(11, 10);
  filter.Forked(11, 20);
  EXPECT_EQ(filter.Judge(At(11, 11), std::nullopt), LeftOut::kOtherProcess);
}

}  // namespace
}  // namespace lbrd::daemon
