#include "pmu/lbr_survival.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "fake_kernel.h"
#include "known_child.h"
#include "pmu/event_request.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;

class LbrSurvivalTest : public ::testing::Test {
 protected:
  LbrSurvivalTest() {
    kernel_.counts = [this](const FakeKernel::Event&) {
      return std::vector<uint64_t>{1, enabled_, running_, 1, 0};
    };
  }
  ~LbrSurvivalTest() override {
    EXPECT_EQ(kernel_.open_descriptors(), 0u);
    EXPECT_EQ(kernel_.mapped_rings(), 0u);
    EXPECT_EQ(kernel_.bad_closes, 0);
  }

  // Once the event is enabled, `count` samples like this are in the ring.
  void Samples(uint32_t count, uint32_t calls, uint32_t younger = 0,
               int32_t pid = KnownChild::kPid) {
    for (uint32_t i = 0; i < count; ++i) samples_.push_back(LbrSample(child_, calls, younger, pid));
  }
  absl::StatusOr<LbrSurvival> Measure(uint32_t depth = 32) {
    kernel_.refuse_control = [this](unsigned long request) {
      if (request == PERF_EVENT_IOC_ENABLE) {
        EXPECT_EQ(child_.releases, 0) << "an LBR that is switched on later misses the first calls";
        for (const auto& sample : samples_) EXPECT_TRUE(kernel_.Write(1, sample));
      }
      return 0;
    };
    perf_event_attr attr = BuildSamplingAttr(
        {.name = "cycles"}, {.period = 1000, .user_only = true}, {.source = StackSource::kLbr});
    return MeasureLbrSurvival(kernel_, attr, depth, child_);
  }

  FakeKernel kernel_;
  KnownChild child_;
  std::vector<std::vector<uint64_t>> samples_;
  uint64_t enabled_ = 1'000'000'000;
  uint64_t running_ = 1'000'000'000;
};

TEST_F(LbrSurvivalTest, SurvivesWhereTheMedianHasTheWholeChain) {
  Samples(60, 20);
  Samples(40, 0);
  const auto found = Measure();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->survives());
  EXPECT_EQ(found->samples, 100u);
  EXPECT_EQ(found->median_calls, 20u);
  EXPECT_EQ(found->cpu, 1);
  EXPECT_FALSE(found->time_shared());
  EXPECT_EQ(child_.releases, 1);
  ASSERT_EQ(kernel_.attempts.size(), 1u);
  EXPECT_EQ(kernel_.attempts[0].pid,
            -1);  // all that runs on that CPU, as whole-machine sessions do
  EXPECT_EQ(kernel_.attempts[0].cpu, 1);
}

TEST_F(LbrSurvivalTest, DoesNotWhereTheMedianIsCut) {
  Samples(45, 20);
  Samples(55, 19);
  const auto found = Measure();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->median_calls, 19u);
  EXPECT_FALSE(found->survives());
}

TEST_F(LbrSurvivalTest, DoesNotWhereWindowsAreEmpty) {
  Samples(100, 0);
  const auto found = Measure();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->median_calls, 0u);
  EXPECT_FALSE(found->survives());
}

TEST_F(LbrSurvivalTest, CountsOnlyCallsOfTheChain) {
  Samples(100, 0, /*younger=*/30);  // somebody else's calls are not the child's stack
  const auto found = Measure();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->median_calls, 0u);
}

TEST_F(LbrSurvivalTest, LooksPastTheCallsOfTheCLibrary) {
  Samples(100, 20, /*younger=*/2);
  const auto found = Measure();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->survives());
}

TEST_F(LbrSurvivalTest, WantsNoMoreThanTheHardwareHolds) {
  Samples(100, 16);
  EXPECT_TRUE(Measure(/*depth=*/16)->survives());
}

TEST_F(LbrSurvivalTest, TakesAnUnknownDepthForTheLeastThereIs) {
  Samples(100, 16);
  const auto found = Measure(/*depth=*/0);
  EXPECT_EQ(found->wanted_calls, 16u);
  EXPECT_TRUE(found->survives());
}

TEST_F(LbrSurvivalTest, LeavesOutOtherProcesses) {
  Samples(100, 0, 0, /*pid=*/7);
  Samples(40, 20);
  const auto found = Measure();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->samples, 40u);
  EXPECT_TRUE(found->survives());
}

TEST_F(LbrSurvivalTest, SaysWhenItCannotTell) {
  Samples(29, 20);
  const auto found = Measure();
  EXPECT_TRUE(absl::IsUnavailable(found.status()));
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("only 29 samples"));
}

TEST_F(LbrSurvivalTest, SeesThatTheEventWasTimeShared) {
  Samples(100, 20);
  running_ = 600'000'000;
  EXPECT_TRUE(Measure()->time_shared());
}

TEST_F(LbrSurvivalTest, GivesEverythingBackWhateverFails) {
  const perf_event_attr attr =
      BuildSamplingAttr({.name = "cycles"}, {}, {.source = StackSource::kLbr});
  kernel_.refuse = [](const perf_event_attr&, int32_t, int32_t) { return EBUSY; };
  EXPECT_FALSE(MeasureLbrSurvival(kernel_, attr, 32, child_).ok());
  kernel_.refuse = [](const perf_event_attr&, int32_t, int32_t) { return 0; };
  kernel_.refuse_map = [] { return EPERM; };
  EXPECT_FALSE(MeasureLbrSurvival(kernel_, attr, 32, child_).ok());
  kernel_.refuse_map = [] { return 0; };
  kernel_.refuse_control = [](unsigned long) { return EIO; };
  EXPECT_FALSE(MeasureLbrSurvival(kernel_, attr, 32, child_).ok());
  EXPECT_EQ(child_.releases, 0);
  kernel_.refuse_control = [](unsigned long) { return 0; };
  child_.release_status = absl::InternalError("dead");
  EXPECT_FALSE(MeasureLbrSurvival(kernel_, attr, 32, child_).ok());
}

}  // namespace
}  // namespace lbrd::pmu
