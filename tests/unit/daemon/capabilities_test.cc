#include "daemon/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "../pmu/fake_kernel.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

pmu::MachineProbes Found(pmu::StackSource source) {
  pmu::MachineProbes found;
  found.probes.push_back({.name = "perf-events", .essential = true});
  pmu::ChosenEvent chosen;
  chosen.source = source;
  found.chosen = chosen;
  return found;
}

TEST(DescribeStacks, OfLbrThatSurvivesSwitches) {
  pmu::MachineProbes found = Found(pmu::StackSource::kLbr);
  found.lbr_depth = 32;
  found.lbr_survival = {.samples = 100, .median_calls = 20, .wanted_calls = 20};
  const std::string text = DescribeStacks(found);
  EXPECT_THAT(text, StartsWith("All sessions"));
  EXPECT_THAT(text, HasSubstr("32 calls deep"));
  EXPECT_THAT(text, HasSubstr("keeps each thread's LBR"));
}

TEST(DescribeStacks, OfLbrThatIsClearedAtSwitches) {
  pmu::MachineProbes found = Found(pmu::StackSource::kLbr);
  found.lbr_survival = {.samples = 100, .median_calls = 1, .wanted_calls = 20};
  const std::string text = DescribeStacks(found);
  EXPECT_THAT(text, StartsWith("Sessions of a process"));
  EXPECT_THAT(text, HasSubstr("clears LBR at each context switch"));
  EXPECT_THAT(text, HasSubstr("--stack dwarf"));
}

TEST(DescribeStacks, OfLbrThatOthersShared) {
  pmu::MachineProbes found = Found(pmu::StackSource::kLbr);
  found.lbr_survival = {
      .median_calls = 0, .wanted_calls = 20, .enabled_ns = 1000, .running_ns = 470};
  EXPECT_THAT(DescribeStacks(found), HasSubstr("is not known"));
}

TEST(DescribeStacks, OfLbrThatWasNotTried) {
  EXPECT_THAT(DescribeStacks(Found(pmu::StackSource::kLbr)), HasSubstr("is not known"));
}

TEST(DescribeStacks, NamesWhatWasRefusedAndWhy) {
  pmu::MachineProbes found = Found(pmu::StackSource::kDwarf);
  found.chosen->refusals = {{pmu::StackSource::kLbr, "no PMU"},
                            {pmu::StackSource::kKernelDeferred, "too old"}};
  const std::string text = DescribeStacks(found);
  EXPECT_THAT(text, StartsWith("Sessions get user stacks from dwarf."));
  EXPECT_THAT(text, HasSubstr("lbr: no PMU; nor from kernel-deferred: too old."));
}

TEST(DescribeStacks, SaysThatNoSessionCanBeStarted) {
  pmu::MachineProbes found;
  found.probes.push_back({.name = "perf-events",
                          .verdict = pmu::ProbeVerdict::kMissing,
                          .why = "not permitted",
                          .essential = true});
  EXPECT_EQ(DescribeStacks(found), "No session can be started: not permitted.");
}

TEST(MachineCapabilities, AnswersAlsoWhereNothingWorks) {
  pmu::FakeKernel kernel;  // no files, and no event opens
  kernel.refuse = [](const perf_event_attr&, int32_t, int32_t) { return EACCES; };
  int children = 0;
  MachineCapabilities capabilities(&kernel, [&] {
    ++children;
    return absl::InternalError("no child");
  });
  v1::Capabilities out;
  capabilities.Describe(/*run_experiments=*/true, &out);
  EXPECT_EQ(children, 0);
  EXPECT_EQ(kernel.open_descriptors(), 0u);
  EXPECT_EQ(out.default_event(), "");
  EXPECT_EQ(out.best_stack_mode(), v1::STACK_MODE_UNSPECIFIED);
  ASSERT_GT(out.probes_size(), 10);
  EXPECT_EQ(out.probes(0).verdict(), v1::PROBE_VERDICT_MISSING);
  EXPECT_TRUE(out.probes(0).essential());
  const v1::Probe& symbols = out.probes(out.probes_size() - 1);
  EXPECT_EQ(symbols.name(), "kernel-symbols");
  EXPECT_EQ(symbols.verdict(), v1::PROBE_VERDICT_DEGRADED);
  EXPECT_THAT(symbols.why(), HasSubstr("/proc/kallsyms"));
  EXPECT_THAT(out.stacks(), StartsWith("No session can be started"));
}

}  // namespace
}  // namespace lbrd::daemon
