#include "daemon/session_admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

#include "../pmu/fake_kernel.h"
#include "absl/strings/str_cat.h"
#include "daemon/session_source.h"

namespace lbrd::daemon {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr uint64_t kLbrCallStack = 0x2c801;
const pmu::EventCode kCycles{.name = "cycles", .type = PERF_TYPE_HARDWARE, .unit = "cycles"};
const pmu::EventCode kCpuClock{.name = "cpu-clock", .type = PERF_TYPE_SOFTWARE, .unit = "ns"};

perf_event_attr LbrAttr(uint64_t filter) {
  perf_event_attr attr{};
  attr.sample_type = PERF_SAMPLE_BRANCH_STACK;
  attr.branch_sample_type = filter;
  return attr;
}

SessionClaim Everywhere(std::string name) { return {.session = std::move(name)}; }
SessionClaim OfProcess(std::string name, int32_t pid) {
  return {.session = std::move(name), .target = {.pid = pid}};
}

void AddProcess(pmu::FakeKernel& kernel, int32_t pid, std::vector<int32_t> tids, int start = 1000) {
  for (const int32_t tid : tids) {
    // A name that tries to look like the fields after it.
    kernel.files[absl::StrCat("/proc/", pid, "/task/", tid, "/stat")] = absl::StrCat(
        tid, " (a ) b 1 2) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 ", start, " 20 21\n");
  }
  kernel.folders[absl::StrCat("/proc/", pid, "/task")] = std::move(tids);
}

TEST(ScarceNeeds, AreOfTheKindOfEvent) {
  EXPECT_THAT(ScarceNeeds(kCpuClock, {}), SizeIs(0));
  const auto cycles = ScarceNeeds(kCycles, LbrAttr(kLbrCallStack));
  ASSERT_THAT(cycles, SizeIs(2));
  EXPECT_EQ(cycles[0].resource, pmu::Resource::kCounters);
  EXPECT_EQ(cycles[1].resource, pmu::Resource::kLbr);
  EXPECT_EQ(cycles[1].filter, kLbrCallStack);
  const auto breakpoint = ScarceNeeds(*pmu::FindEvent("mem:0x1000:w"), {});
  ASSERT_THAT(breakpoint, SizeIs(1));
  EXPECT_EQ(breakpoint[0].resource, pmu::Resource::kBreakpoints);
}

TEST(SessionAdmission, RefusesASecondLbrFilterNamingTheFirstSession) {
  pmu::FakeKernel kernel;
  pmu::Admission admission({.cpus = 4});
  const auto night =
      AdmitEvent(kernel, admission, Everywhere("night"), kCycles, LbrAttr(kLbrCallStack));
  ASSERT_TRUE(night.ok());
  EXPECT_TRUE(
      AdmitEvent(kernel, admission, Everywhere("same"), kCycles, LbrAttr(kLbrCallStack)).ok());
  const auto other = AdmitEvent(kernel, admission, Everywhere("other"), kCycles, LbrAttr(0x8));
  EXPECT_TRUE(absl::IsResourceExhausted(other.status()));
  EXPECT_THAT(std::string(other.status().message()),
              AllOf(HasSubstr("'night' (filter call-stack (0x2c801) on every CPU)"),
                    HasSubstr("--allow-multiplex")));

  SessionClaim turns = Everywhere("other");
  turns.allow_multiplex = true;
  const auto shared = AdmitEvent(kernel, admission, turns, kCycles, LbrAttr(0x8));
  ASSERT_TRUE(shared.ok());
  const std::vector<std::string> notes = TimeSharingNotes(*shared);
  ASSERT_THAT(notes, SizeIs(1));
  EXPECT_THAT(notes[0], AllOf(HasSubstr("takes turns"), HasSubstr("'night'")));
  EXPECT_THAT(TimeSharingNotes(*night), SizeIs(0));
}

TEST(SessionAdmission, AdmitsAllThreadsOfAProcessOrNone) {
  pmu::FakeKernel kernel;
  AddProcess(kernel, 70, {70, 71, 72});
  pmu::Admission admission({.cpus = 2});
  const pmu::EventCode code = *pmu::FindEvent("mem:0x1000:w");
  const auto four = admission.Admit(
      {.task = pmu::TaskId{.tid = 72, .start_time = 1000}, .slots = 4, .holder = "debugger"});
  ASSERT_TRUE(four.ok());
  const auto refused = AdmitEvent(kernel, admission, OfProcess("watch", 70), code, {});
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("'debugger' (4 on thread 72)"));
  EXPECT_EQ(admission.figures().task_uses, 1u);
  // The same number, but another thread: it started later.
  AddProcess(kernel, 70, {70, 71, 72}, /*start=*/2000);
  const auto watch = AdmitEvent(kernel, admission, OfProcess("watch", 70), code, {});
  ASSERT_TRUE(watch.ok());
  EXPECT_THAT(*watch, SizeIs(3));
}

TEST(SessionAdmission, AdmitsSomeCpus) {
  pmu::FakeKernel kernel;
  pmu::Admission admission({.cpus = 4, .counters = 1});
  SessionClaim claim = Everywhere("some");
  claim.target.cpus = {1, 3};
  const auto some = AdmitEvent(kernel, admission, claim, kCycles, {});
  EXPECT_THAT(*some, SizeIs(2));
  claim.target.cpus = {0, 2};
  EXPECT_TRUE(AdmitEvent(kernel, admission, claim, kCycles, {}).ok());
  claim.target.cpus = {0, 3};
  EXPECT_THAT(std::string(AdmitEvent(kernel, admission, claim, kCycles, {}).status().message()),
              HasSubstr("no counter free on CPU 3"));
}

TEST(ChooseAndAdmit, TriesABreakpointOnlyWhereItFits) {
  pmu::FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return (attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0 ? EOPNOTSUPP : 0;
  };
  AddProcess(kernel, 70, {70});
  pmu::Admission admission({.cpus = 2});
  pmu::EventRequest request;
  request.event = "mem:0x1000:w";
  {
    const auto first = ChooseAndAdmit(kernel, admission, OfProcess("first", 70), request);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(first->event.code.breakpoint());
    EXPECT_THAT(first->grants, SizeIs(1));
    EXPECT_EQ(admission.figures().task_uses, 1u);  // the trial's is given back
    const auto three = admission.Admit({.slots = 3, .holder = "three"});
    ASSERT_TRUE(three.ok());
    kernel.attempts.clear();
    const auto second = ChooseAndAdmit(kernel, admission, OfProcess("second", 70), request);
    EXPECT_THAT(std::string(second.status().message()),
                AllOf(HasSubstr("'first' (1 on thread 70)"), HasSubstr("'three'")));
    EXPECT_THAT(kernel.attempts, SizeIs(0));
  }
  EXPECT_TRUE(admission.figures().counters_zero);
}

TEST(ChooseAndAdmit, HasATrialOfItsOwnInTheAccount) {
  pmu::FakeKernel kernel;
  AddProcess(kernel, 70, {70});
  pmu::Admission admission({.cpus = 2});
  uint64_t uses = 0;
  kernel.refuse = [&](const perf_event_attr&, int32_t, int32_t) {
    uses = admission.figures().task_uses;
    return 0;
  };
  pmu::EventRequest request;
  request.event = "mem:0x1000:w";
  ASSERT_TRUE(ChooseAndAdmit(kernel, admission, OfProcess("one", 70), request).ok());
  EXPECT_EQ(uses, 1u);
}

TEST(SessionSpec, SamplesEveryHitOfABreakpoint) {
  v1::SessionSpec spec;
  spec.mutable_target()->mutable_all_cpus();
  spec.set_event("mem:0x1000:w");
  EXPECT_EQ(CheckSpec(spec, false)->period(), 1u);
  EXPECT_EQ(CheckSpec(spec, false)->frequency_hz(), 0u);
  spec.set_period(5);
  EXPECT_EQ(CheckSpec(spec, false)->period(), 5u);
  spec.set_period(0);
  spec.set_event("cycles");
  EXPECT_EQ(CheckSpec(spec, false)->period(), 0u);
}

}  // namespace
}  // namespace lbrd::daemon
