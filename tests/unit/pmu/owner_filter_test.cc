#include "pmu/owner_filter.h"

#include <gtest/gtest.h>

#include <map>

#include "fake_kernel.h"
#include "pmu/event_set.h"
#include "wire_records.h"

namespace lbrd::pmu {
namespace {

class OwnerFilterTest : public ::testing::Test {
 protected:
  OwnerFilterTest() { kernel_.now = 1'000'000'000'000; }
  // The fake's clock, which stands still: what is looked at is known from now on.
  uint64_t Now() { return kernel_.Now(); }

  FakeKernel kernel_;
  std::map<int32_t, Ownership> owners_;
  int looks_ = 0;
  OwnerFilter filter_{kernel_, [this](int32_t pid) {
                        ++looks_;
                        const auto found = owners_.find(pid);
                        return found == owners_.end() ? Ownership::kGone : found->second;
                      }};
};

TEST_F(OwnerFilterTest, WhatWasBeforeTheLookIsNobodys) {
  owners_ = {{10, Ownership::kOwn}, {11, Ownership::kOther}};
  const uint64_t now = Now();
  EXPECT_FALSE(filter_.Wanted(10, now - 1)) << "it may have been another's then";
  EXPECT_TRUE(filter_.Wanted(10, now + 1'000));
  EXPECT_FALSE(filter_.Wanted(11, now + 1'000));
  EXPECT_FALSE(filter_.Wanted(12, now + 1'000)) << "gone";
  EXPECT_FALSE(filter_.Wanted(0, now + 1'000)) << "idle";
  EXPECT_EQ(looks_, 3);
}

TEST_F(OwnerFilterTest, AChildIsWhatItsParentWas) {
  owners_[10] = Ownership::kOwn;
  const uint64_t now = Now() + 1'000;
  EXPECT_TRUE(filter_.Wanted(10, now));
  filter_.Forked(20, 10, now + 1);
  EXPECT_TRUE(filter_.Wanted(20, now + 2)) << "and needs no look: it may be gone";
  filter_.Forked(21, 99, now + 1);
  EXPECT_FALSE(filter_.Wanted(21, now + 2));
  filter_.Forked(10, 10, now + 3);  // a thread
  EXPECT_TRUE(filter_.Wanted(10, now + 4));
}

TEST_F(OwnerFilterTest, ASetuidProgramThatIsGoneIsNotShown) {
  owners_[10] = Ownership::kOwn;
  const uint64_t now = Now() + 1'000;
  EXPECT_TRUE(filter_.Wanted(10, now));
  filter_.Forked(20, 10, now + 1);
  filter_.Executed(20, now + 2);
  EXPECT_FALSE(filter_.Wanted(20, now + 3));
}

TEST_F(OwnerFilterTest, AProgramIsLookedAtAgainOnceItIsExecuted) {
  owners_[10] = Ownership::kOwn;
  const uint64_t now = Now() + 1'000;
  EXPECT_TRUE(filter_.Wanted(10, now));
  owners_[10] = Ownership::kOther;
  EXPECT_TRUE(filter_.Wanted(10, now + 1)) << "no record has told of a change yet";
  filter_.Executed(10, now + 2);
  EXPECT_FALSE(filter_.Wanted(10, now + 3));
  filter_.Exited(10, now + 4);
  owners_[10] = Ownership::kOwn;
  EXPECT_TRUE(filter_.Wanted(10, Now() + 1'000)) << "a new process of that number";
}

TEST_F(OwnerFilterTest, AnExecBeforeTheLookIsKnownAlready) {
  owners_[10] = Ownership::kOwn;
  const uint64_t before = Now();
  EXPECT_FALSE(filter_.Wanted(10, before - 10));
  filter_.Executed(10, before - 5);
  owners_.clear();
  EXPECT_TRUE(filter_.Wanted(10, Now() + 1'000));
}

TEST_F(OwnerFilterTest, LostRecordsMayHaveToldOfAnything) {
  owners_[10] = Ownership::kOwn;
  const uint64_t now = Now() + 1'000;
  EXPECT_TRUE(filter_.Wanted(10, now));
  owners_[10] = Ownership::kOther;
  filter_.Lost();
  EXPECT_FALSE(filter_.Wanted(10, now + 1));
}

TEST_F(OwnerFilterTest, ASessionLeavesOutOthersSamplesAndCountsThem) {
  kernel_.files["/sys/devices/system/cpu/online"] = "0";
  owners_ = {{10, Ownership::kOwn}, {11, Ownership::kOther}};
  ChosenEvent event;
  event.code = {.name = "cpu-clock", .type = PERF_TYPE_SOFTWARE, .config = 0, .unit = "ns"};
  event.attr = BuildSamplingAttr(event.code, {}, {.source = StackSource::kFramePointer});
  EventTarget target{.uid = 1000};
  target.ownership_of = [this](int32_t pid) { return owners_[pid]; };
  const auto set = EventSet::Open(kernel_, event, target, 16384);
  ASSERT_TRUE(set.ok()) << set.status();
  const uint64_t late = Now() + 1'000'000'000;
  ASSERT_TRUE(kernel_.Write(0, Wire({.pid = 10, .tid = 10, .time = late + 1})));
  ASSERT_TRUE(kernel_.Write(0, Wire({.pid = 11, .tid = 11, .time = late + 2})));
  ASSERT_TRUE(kernel_.Write(0, WireFork(12, 12, 10, 10, late + 3)));
  ASSERT_TRUE(kernel_.Write(0, Wire({.pid = 12, .tid = 12, .time = late + 4})));
  (*set)->Finish();
  std::vector<uint64_t> times;
  RawRecord record;
  while (*(*set)->Next(&record) == ReadResult::kRecord) times.push_back(record.who.time - late);
  EXPECT_EQ(times, (std::vector<uint64_t>{1, 3, 4}));
  EXPECT_EQ((*set)->stats().other_users, 1u);
}

}  // namespace
}  // namespace lbrd::pmu
