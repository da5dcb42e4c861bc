// Sessions that ask for different branch filters of the one LBR: refused by name, or time-shared by
// the kernel, with branches where a session asked for them and stacks where it did not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "daemon/flow_table.h"
#include "pmu/admission_limits.h"
#include "tests/sim/keeping_sink.h"
#include "tests/sim/program_elf.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BranchFilterOnSim : public ::testing::Test {
 protected:
  BranchFilterOnSim() {
    kernel_.With([this](Machine& machine) {
      SpawnOptions spawn;
      // Nothing that ends: simulated seconds may be over before a second flow's thread has begun.
      spawn.behaviour = machine.AddBehaviour({});
      const auto made = machine.AddProgram({});
      files_.Add(*made);
      for (int i = 0; i < 8; ++i) ASSERT_NE(machine.Spawn(made, spawn), nullptr);
    });
    flows_ = std::make_unique<daemon::FlowTable>(&kernel_, &admission_, &binaries_,
                                                 /*tasks=*/nullptr, absl::ZeroDuration());
  }

  static v1::SessionSpec Spec(v1::BranchFilter filter, bool allow_multiplex = false) {
    v1::SessionSpec spec;
    spec.mutable_target()->mutable_all_cpus();
    spec.set_frequency_hz(2999);
    spec.set_branch_filter(filter);
    spec.set_allow_multiplex(allow_multiplex);
    return *daemon::CheckSpec(spec, /*replay=*/false);
  }
  static v1::Session Described(const daemon::SessionFeed& feed) {
    v1::Session session;
    feed.Describe(&session);
    return session;
  }
  static SimOptions FourCpus() {
    SimOptions options;
    options.machine.cpus = 4;
    return options;
  }

  SimKernel kernel_{FourCpus()};
  pmu::Admission admission_{pmu::DetectAdmissionLimits(kernel_)};
  ProgramFiles files_;
  unwind::BinaryCache binaries_{&files_};
  std::unique_ptr<daemon::FlowTable> flows_;
};

TEST_F(BranchFilterOnSim, ASecondFilterIsRefusedNamingTheFirstSession) {
  const auto night = flows_->Join("night", Spec(v1::BRANCH_FILTER_CALL_STACK));
  ASSERT_TRUE(night.ok()) << night.status();
  EXPECT_EQ(Described(**night).events(0).stack_mode(), v1::STACK_MODE_LBR);
  const size_t events = kernel_.open_events();
  EXPECT_GT(events, 0u);

  const auto other = flows_->Join("other", Spec(v1::BRANCH_FILTER_ANY_CALL));
  EXPECT_TRUE(absl::IsResourceExhausted(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()),
              AllOf(HasSubstr("LBR with branch filter any-call"),
                    HasSubstr("'night' (filter call-stack"), HasSubstr("--allow-multiplex")));
  EXPECT_EQ(kernel_.open_events(), events);

  // Who wants the same filter gets the same events.
  std::vector<std::unique_ptr<daemon::SessionFeed>> nine;
  for (int i = 0; i < 9; ++i) {
    auto same = flows_->Join("same" + std::to_string(i), Spec(v1::BRANCH_FILTER_CALL_STACK));
    ASSERT_TRUE(same.ok()) << same.status();
    nine.push_back(*std::move(same));
  }
  EXPECT_EQ(kernel_.open_events(), events);
  EXPECT_EQ(flows_->size(), 1u);
}

TEST_F(BranchFilterOnSim, OrTakesTurnsAndEachIsToldItsShare) {
  auto night = flows_->Join("night", Spec(v1::BRANCH_FILTER_CALL_STACK));
  ASSERT_TRUE(night.ok()) << night.status();
  auto other = flows_->Join("other", Spec(v1::BRANCH_FILTER_ANY, /*allow_multiplex=*/true));
  ASSERT_TRUE(other.ok()) << other.status();
  const v1::Session described = Described(**other);
  EXPECT_EQ(described.events(0).branch_filter(), v1::BRANCH_FILTER_ANY);
  EXPECT_EQ(described.events(0).stack_mode(), v1::STACK_MODE_KERNEL_DEFERRED);
  EXPECT_EQ(described.events(0).refusals(0).mode(), v1::STACK_MODE_LBR);
  EXPECT_THAT(described.events(0).refusals(0).why(), HasSubstr("another filter"));
  EXPECT_THAT(described.notes(0), AllOf(HasSubstr("takes turns"), HasSubstr("'night'")));

  KeepingSink stacks;
  KeepingSink branches;
  absl::Notification night_done;
  absl::Notification other_done;
  ASSERT_TRUE((*night)
                  ->Begin(absl::InfiniteDuration(), &stacks,
                          [&](const absl::Status& status) {
                            EXPECT_TRUE(status.ok()) << status;
                            night_done.Notify();
                          })
                  .ok());
  ASSERT_TRUE((*other)
                  ->Begin(absl::InfiniteDuration(), &branches,
                          [&](const absl::Status& status) {
                            EXPECT_TRUE(status.ok()) << status;
                            other_done.Notify();
                          })
                  .ok());
  const auto sampled = [](const daemon::SessionFeed& feed) {
    return feed.stats().source.samples > 0;
  };
  while (!sampled(**night) || !sampled(**other)) absl::SleepFor(absl::Milliseconds(1));
  const uint64_t end = kernel_.Now() + 1'500'000'000;
  while (kernel_.Now() < end) absl::SleepFor(absl::Milliseconds(1));
  (*night)->RequestStop();
  (*other)->RequestStop();
  night_done.WaitForNotification();
  other_done.WaitForNotification();

  for (const daemon::SessionFeed* feed : {night->get(), other->get()}) {
    const pmu::SourceStats stats = feed->stats().source;
    ASSERT_GT(stats.time_enabled_ns, 0u);
    const double share =
        static_cast<double>(stats.time_running_ns) / static_cast<double>(stats.time_enabled_ns);
    EXPECT_GT(share, 0.3);
    EXPECT_LT(share, 0.7);
  }
  ASSERT_GT(stacks.samples().size(), 100u);
  for (const daemon::Sample& sample : stacks.samples()) EXPECT_EQ(sample.branches, nullptr);
  size_t with_branches = 0;
  size_t named = 0;
  for (const daemon::Sample& sample : branches.samples()) {
    for (const auto& frame : sample.stack->frames) {
      EXPECT_NE(frame->source, unwind::FrameSource::kLbr);
    }
    if (sample.branches == nullptr) continue;
    ++with_branches;
    EXPECT_LE(sample.branches->size(), kMaxLbrDepth);
    // The hardware goes on over a switch: some are another task's, at no place of this one's.
    for (const daemon::BranchInfo& branch : *sample.branches) {
      named += !branch.from->symbol.empty() && !branch.to->symbol.empty();
    }
  }
  EXPECT_GT(with_branches, 100u);
  EXPECT_GT(named, with_branches);
}

TEST_F(BranchFilterOnSim, WhatHasNoBranchesSaysSo) {
  v1::SessionSpec spec = Spec(v1::BRANCH_FILTER_COND);
  spec.set_event("cpu-clock");
  EXPECT_THAT(std::string(flows_->Join("clock", spec).status().message()),
              AllOf(HasSubstr("branch filter cond"), HasSubstr("carries no branch stack")));
  spec.clear_event();
  spec.set_stack_mode(v1::STACK_MODE_LBR);
  const auto checked = daemon::CheckSpec(spec, /*replay=*/false);
  EXPECT_TRUE(absl::IsInvalidArgument(checked.status()));
  EXPECT_THAT(std::string(checked.status().message()), HasSubstr("call-stack only"));
}

}  // namespace
}  // namespace lbrd::sim
