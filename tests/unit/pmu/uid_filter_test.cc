#include "pmu/uid_filter.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "fake_kernel.h"
#include "pmu/event_set.h"
#include "wire_records.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

class UidFilterTest : public ::testing::Test {
 protected:
  void Process(int32_t pid, uint32_t effective) {
    kernel_.files[absl::StrCat("/proc/", pid, "/status")] =
        absl::StrCat("Name:\tx\nUid:\t7\t", effective, "\t7\t7\nGid:\t1\t1\t1\t1\n");
  }
  FakeKernel kernel_;
};

TEST_F(UidFilterTest, TakesTheEffectiveUser) {
  Process(10, 1000);
  Process(11, 0);
  EXPECT_EQ(UserOf(kernel_, 10), 1000u);
  UidFilter filter(kernel_, 1000);
  EXPECT_TRUE(filter.Wanted(10, 1));
  EXPECT_FALSE(filter.Wanted(11, 1));
  EXPECT_FALSE(filter.Wanted(12, 1));  // gone, and nobody's child
  EXPECT_FALSE(filter.Wanted(0, 1));
  EXPECT_TRUE(UidFilter(kernel_, 0).Wanted(0, 1));
}

TEST_F(UidFilterTest, AGoneProcessHasItsParentsUser) {
  Process(10, 1000);
  UidFilter filter(kernel_, 1000);
  filter.Forked(20, 10);
  filter.Forked(21, 20);
  EXPECT_TRUE(filter.Wanted(21, 1));
  filter.Exited(21);
  EXPECT_FALSE(filter.Wanted(21, 1));
  filter.Forked(10, 10);  // a thread
  EXPECT_TRUE(filter.Wanted(10, 1));
}

TEST_F(UidFilterTest, LooksAgainAfterAnExecAndAfterASecond) {
  Process(10, 0);
  UidFilter filter(kernel_, 1000);
  EXPECT_FALSE(filter.Wanted(10, kSecond));
  Process(10, 1000);  // it dropped its privileges, which nobody tells
  EXPECT_FALSE(filter.Wanted(10, kSecond + 5));
  filter.Executed(10);
  EXPECT_TRUE(filter.Wanted(10, kSecond + 6));
  Process(10, 0);
  EXPECT_TRUE(filter.Wanted(10, 2 * kSecond));
  EXPECT_FALSE(filter.Wanted(10, 2 * kSecond + 7));
}

TEST_F(UidFilterTest, ASessionLeavesOutOthersSamplesAndCountsThem) {
  kernel_.files["/sys/devices/system/cpu/online"] = "0";
  Process(10, 1000);
  Process(11, 0);
  ChosenEvent event;
  event.code = {.name = "cpu-clock", .type = PERF_TYPE_SOFTWARE, .config = 0, .unit = "ns"};
  event.attr = BuildSamplingAttr(event.code, {}, {.source = StackSource::kFramePointer});
  const auto set = EventSet::Open(kernel_, event, {.uid = 1000}, 16384);
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_TRUE(kernel_.Write(0, Wire({.pid = 10, .tid = 10, .time = 1})));
  ASSERT_TRUE(kernel_.Write(0, Wire({.pid = 11, .tid = 11, .time = 2})));
  ASSERT_TRUE(kernel_.Write(0, WireFork(12, 12, 10, 10, 3)));
  ASSERT_TRUE(kernel_.Write(0, Wire({.pid = 12, .tid = 12, .time = 4})));
  (*set)->Finish();
  std::vector<uint64_t> times;
  RawRecord record;
  while (*(*set)->Next(&record) == ReadResult::kRecord) times.push_back(record.who.time);
  EXPECT_EQ(times, (std::vector<uint64_t>{1, 3, 4}));
  EXPECT_EQ((*set)->stats().samples, 3u);
  EXPECT_EQ((*set)->stats().other_users, 1u);
}

}  // namespace
}  // namespace lbrd::pmu
