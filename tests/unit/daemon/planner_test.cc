#include "daemon/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace lbrd::daemon {
namespace {

v1::SessionSpec AllCpus() {
  v1::SessionSpec spec;
  spec.mutable_target()->mutable_all_cpus();
  spec.set_event("cpu-clock");
  spec.set_frequency_hz(99);
  return spec;
}

TEST(PlannerTest, CpusAreUnitedAndCovered) {
  EXPECT_EQ(UnionOf({0, 2}, {1, 2}), CpuSet({0, 1, 2}));
  EXPECT_EQ(UnionOf({0}, {}), CpuSet()) << "all CPUs and some are all";
  EXPECT_TRUE(Covers({}, {5}));
  EXPECT_TRUE(Covers({1, 2}, {2}));
  EXPECT_FALSE(Covers({1, 2}, {}));
  EXPECT_FALSE(Covers({1, 2}, {2, 3}));
}

TEST(PlannerTest, WhatTheKernelCanDoButNoFilterIsNotShared) {
  v1::SessionSpec spec = AllCpus();
  EXPECT_EQ(SharingOf(spec), Sharing::kAlways);
  spec.mutable_target()->mutable_user()->set_uid(1);
  EXPECT_EQ(SharingOf(spec), Sharing::kAlways);
  spec.mutable_target()->mutable_process()->set_pid(1);
  EXPECT_EQ(SharingOf(spec), Sharing::kIfThere);
  spec.mutable_target()->mutable_process()->set_enable_on_exec(true);
  EXPECT_EQ(SharingOf(spec), Sharing::kNever);
  EXPECT_NE(WhyNotShared(spec), "");
  spec.mutable_target()->mutable_cgroup()->set_path("x");
  EXPECT_EQ(SharingOf(spec), Sharing::kNever);
  spec.mutable_target()->mutable_recording()->set_path("x");
  EXPECT_EQ(SharingOf(spec), Sharing::kNever);
  EXPECT_EQ(WhyNotShared(spec), "") << "it has no events at all";
}

TEST(PlannerTest, AKindIsEverythingThatTheKernelEventHasButItsRate) {
  const FlowKind kind = KindOf(AllCpus());
  v1::SessionSpec other = AllCpus();
  other.set_frequency_hz(999);
  EXPECT_EQ(KindOf(other), kind);
  other.clear_frequency_hz();
  other.set_period(1000);
  EXPECT_NE(KindOf(other), kind);
  other = AllCpus();
  other.set_event("page-faults");
  EXPECT_NE(KindOf(other), kind);
  other = AllCpus();
  other.set_branch_filter(v1::BRANCH_FILTER_ANY);
  EXPECT_NE(KindOf(other), kind);
  other = AllCpus();
  other.set_stack_mode(v1::STACK_MODE_DWARF);
  EXPECT_NE(KindOf(other), kind);
  other = AllCpus();
  other.set_user_only(true);
  EXPECT_NE(KindOf(other), kind);
  other = AllCpus();
  other.set_stack_mode(v1::STACK_MODE_FRAME_POINTER);
  const FlowKind pointers = KindOf(other);
  other.set_stack_copy_bytes(1024);
  EXPECT_EQ(KindOf(other), pointers) << "where no stack is copied its size does not matter";
  other.set_stack_mode(v1::STACK_MODE_LBR);
  const FlowKind lbr_and_copy = KindOf(other);
  other.set_stack_copy_bytes(0);
  EXPECT_NE(KindOf(other), lbr_and_copy) << "beside the LBR a copy is there or not";
}

TEST(PlannerTest, AProcessSharesOnlyWhereTheMachineIsWatched) {
  const FlowKind kind = KindOf(AllCpus());
  const FlowDemand process{.kind = kind, .sharing = Sharing::kIfThere, .rate = 99};
  const std::vector<FlowPlace> some = {{kind, {0, 1}}};
  const std::vector<FlowPlace> all = {{kind, {0, 1}}, {kind, {}}};
  EXPECT_EQ(ChooseFlow(process, {}), std::nullopt);
  EXPECT_EQ(ChooseFlow(process, some), std::nullopt);
  EXPECT_EQ(ChooseFlow(process, all), 1u);
}

TEST(PlannerTest, AFlowThatCannotBeWidenedServesWhomItCovers) {
  const FlowKind kind = KindOf(AllCpus());
  const std::vector<FlowPlace> fixed = {{kind, {0, 1}, /*can_widen=*/false}};
  EXPECT_EQ(ChooseFlow({.kind = kind, .cpus = {1}, .rate = 1}, fixed), 0u);
  EXPECT_EQ(ChooseFlow({.kind = kind, .cpus = {1, 2}, .rate = 1}, fixed), std::nullopt);
}

TEST(PlannerTest, TheFasterRateServesBoth) {
  FlowKind kind;
  EXPECT_EQ(FasterRate(kind, 99, 999), 999u);
  EXPECT_DOUBLE_EQ(KeepProbability(kind, 999, 99), 99.0 / 999);
  EXPECT_DOUBLE_EQ(KeepProbability(kind, 99, 999), 1);
  kind.by_period = true;
  EXPECT_EQ(FasterRate(kind, 100, 1000), 100u);
  EXPECT_DOUBLE_EQ(KeepProbability(kind, 100, 1000), 0.1);
}

TEST(PlannerTest, ASlowedRateIsNeverZeroAndNeverBeyondTheKernels) {
  FlowKind kind;
  EXPECT_EQ(SlowedRate(kind, 999, 1), 999u);
  EXPECT_EQ(SlowedRate(kind, 999, 8), 124u);
  EXPECT_EQ(SlowedRate(kind, 19, 256), 1u);
  EXPECT_EQ(SlowerRate(kind, 124, 999), 124u);
  kind.by_period = true;
  EXPECT_EQ(SlowedRate(kind, 1000, 8), 8000u);
  EXPECT_EQ(SlowedRate(kind, uint64_t{1} << 62, 8), uint64_t{INT64_MAX});
  EXPECT_EQ(SlowerRate(kind, 1000, 8000), 8000u);
}

// Sessions of random kinds, targets and rates come and go. Flows are kept as the daemon keeps them.
TEST(PlannerTest, RandomSessionsHaveTheFewestEventsAndNobodyIsStarved) {
  struct Member {
    FlowDemand demand;
    size_t flow;
  };
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::vector<FlowPlace> flows;
    std::vector<Member> members;
    for (int step = 0; step < 200; ++step) {
      if (!members.empty() && random() % 3 == 0) {
        members.erase(members.begin() + static_cast<ptrdiff_t>(random() % members.size()));
      } else {
        FlowDemand demand;
        demand.kind.event = random() % 2 == 0 ? "a" : "b";
        demand.kind.by_period = random() % 4 == 0;
        demand.rate = 1 + random() % 1000;
        if (random() % 3 != 0) {
          std::set<int32_t> cpus;
          for (uint32_t i = 0; i <= random() % 3; ++i) {
            cpus.insert(static_cast<int32_t>(random() % 8));
          }
          demand.cpus.assign(cpus.begin(), cpus.end());
        }
        std::optional<size_t> flow = ChooseFlow(demand, flows);
        if (!flow.has_value()) {
          flow = flows.size();
          flows.push_back({demand.kind, demand.cpus});
        }
        flows[*flow].cpus = UnionOf(flows[*flow].cpus, demand.cpus);
        members.push_back({demand, *flow});
      }
      // A flow never has two of its kind beside it: one event for each kind and CPU.
      for (size_t i = 0; i < flows.size(); ++i) {
        for (size_t k = i + 1; k < flows.size(); ++k) EXPECT_NE(flows[i].kind, flows[k].kind);
      }
      for (const Member& member : members) {
        EXPECT_EQ(flows[member.flow].kind, member.demand.kind);
        EXPECT_TRUE(Covers(flows[member.flow].cpus, member.demand.cpus));
        uint64_t rate = member.demand.rate;
        for (const Member& other : members) {
          if (other.flow == member.flow) {
            rate = FasterRate(member.demand.kind, rate, other.demand.rate);
          }
        }
        // Each gets what it asked for: the flow's rate times what is kept of it.
        const double keep = KeepProbability(member.demand.kind, rate, member.demand.rate);
        const auto flow_rate = static_cast<double>(rate);
        EXPECT_NEAR(member.demand.kind.by_period ? flow_rate / keep : flow_rate * keep,
                    static_cast<double>(member.demand.rate), 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace lbrd::daemon
