#include "pmu/stack_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "fake_kernel.h"

namespace lbrd::pmu {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

bool Deferred(const perf_event_attr& attr) {
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const char*>(&attr) + 40, sizeof(flags));
  return (flags & (kAttrDeferCallchain | kAttrDeferOutput)) != 0;
}
bool Lbr(const perf_event_attr& attr) { return (attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0; }
bool StackCopy(const perf_event_attr& attr) {
  return (attr.sample_type & PERF_SAMPLE_STACK_USER) != 0;
}

std::vector<StackSource> Refused(const ChosenEvent& chosen) {
  std::vector<StackSource> sources;
  for (const Refusal& refusal : chosen.refusals) sources.push_back(refusal.source);
  return sources;
}

EventRequest Request(const char* event) {
  EventRequest request;
  request.event = event;
  return request;
}
EventRequest Forced(const char* event, StackSource source) {
  EventRequest request = Request(event);
  request.best_source = false;
  request.source = source;
  return request;
}

TEST(ChooseEvent, TakesLbrInItsStrongestFormWhereAllOpens) {
  FakeKernel kernel;
  const auto chosen = ChooseEvent(kernel, Request("cycles"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->source, StackSource::kLbr);
  EXPECT_EQ(chosen->attr.branch_sample_type, 0x2c801u);
  EXPECT_EQ(chosen->attr.precise_ip, 3u);
  EXPECT_NE(chosen->attr.read_format & PERF_FORMAT_LOST, 0u);
  EXPECT_THAT(chosen->refusals, IsEmpty());
  ASSERT_EQ(kernel.attempts.size(), 1u);
  EXPECT_EQ(kernel.attempts[0].attr.disabled, 1u);
  EXPECT_EQ(kernel.attempts[0].pid, 0);
  EXPECT_EQ(kernel.open_descriptors(), 0u);
}

TEST(ChooseEvent, DropsTheHardwareIndexFirst) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return (attr.branch_sample_type & PERF_SAMPLE_BRANCH_HW_INDEX) != 0 ? EINVAL : 0;
  };
  const auto chosen = ChooseEvent(kernel, Request("cycles"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->attr.branch_sample_type, 0xc801u);
  EXPECT_EQ(chosen->attr.precise_ip, 3u);
  EXPECT_NE(chosen->attr.read_format & PERF_FORMAT_LOST, 0u);
  EXPECT_EQ(kernel.attempts.size(), 2u);
}

TEST(ChooseEvent, DoesWithoutLossCountsOnOldKernels) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return (attr.read_format & PERF_FORMAT_LOST) != 0 ? EINVAL : 0;
  };
  const auto chosen = ChooseEvent(kernel, Request("cycles"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->source, StackSource::kLbr);
  EXPECT_EQ(chosen->attr.branch_sample_type, 0x2c801u);
  EXPECT_EQ(chosen->attr.precise_ip, 3u);
}

TEST(ChooseEvent, TakesTheMostPreciseIpThatOpens) {
  for (uint32_t most = 0; most <= 3; ++most) {
    FakeKernel kernel;
    kernel.refuse = [most](const perf_event_attr& attr, int32_t, int32_t) {
      return attr.precise_ip > most ? EOPNOTSUPP : 0;
    };
    const auto chosen = ChooseEvent(kernel, Request("cycles"));
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    EXPECT_EQ(chosen->source, StackSource::kLbr);
    EXPECT_EQ(chosen->attr.precise_ip, most);
    EXPECT_EQ(chosen->attr.branch_sample_type, 0x2c801u);
  }
}

TEST(ChooseEvent, GoesDownTheLadderAndSaysWhy) {
  FakeKernel kernel;
  int dwarf_error = 0;
  kernel.refuse = [&](const perf_event_attr& attr, int32_t, int32_t) {
    if (Lbr(attr)) return EOPNOTSUPP;
    if (Deferred(attr)) return EINVAL;
    return StackCopy(attr) ? dwarf_error : 0;
  };
  const auto dwarf = ChooseEvent(kernel, Request("cycles"));
  ASSERT_TRUE(dwarf.ok()) << dwarf.status();
  EXPECT_EQ(dwarf->source, StackSource::kDwarf);
  EXPECT_TRUE(StackCopy(dwarf->attr));
  EXPECT_THAT(Refused(*dwarf), ElementsAre(StackSource::kLbr, StackSource::kKernelDeferred));
  EXPECT_THAT(dwarf->refusals[0].why, HasSubstr("no LBR call stacks"));
  EXPECT_THAT(dwarf->refusals[1].why, HasSubstr("6.19"));

  dwarf_error = EOPNOTSUPP;
  const auto fp = ChooseEvent(kernel, Request("cycles"));
  ASSERT_TRUE(fp.ok()) << fp.status();
  EXPECT_EQ(fp->source, StackSource::kFramePointer);
  EXPECT_THAT(Refused(*fp),
              ElementsAre(StackSource::kLbr, StackSource::kKernelDeferred, StackSource::kDwarf));
  EXPECT_THAT(fp->refusals[2].why, HasSubstr("Operation not supported"));
  EXPECT_EQ(kernel.open_descriptors(), 0u);
}

TEST(ChooseEvent, TakesDeferredChainsBeforeStackCopies) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return Lbr(attr) ? EBUSY : 0;
  };
  const auto chosen = ChooseEvent(kernel, Request("cycles"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->source, StackSource::kKernelDeferred);
  EXPECT_TRUE(Deferred(chosen->attr));
  ASSERT_THAT(Refused(*chosen), ElementsAre(StackSource::kLbr));
  EXPECT_THAT(chosen->refusals[0].why, HasSubstr("Intel PT"));
}

TEST(ChooseEvent, AsksNoPrecisionOfSoftwareEvents) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return Lbr(attr) ? EOPNOTSUPP : 0;
  };
  const auto chosen = ChooseEvent(kernel, Request("cpu-clock"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  for (const auto& attempt : kernel.attempts) EXPECT_EQ(attempt.attr.precise_ip, 0u);
  ASSERT_THAT(Refused(*chosen), ElementsAre(StackSource::kLbr));
  EXPECT_THAT(chosen->refusals[0].why, HasSubstr("'cpu-clock' is a software event"));
}

TEST(ChooseEvent, PrefersCycles) {
  FakeKernel kernel;
  const auto chosen = ChooseEvent(kernel, {});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->code.name, "cycles");
  EXPECT_EQ(chosen->code.type, static_cast<uint32_t>(PERF_TYPE_HARDWARE));
}

TEST(ChooseEvent, FallsBackToTheClockWithoutHardwareAndSaysSo) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    if (attr.type == PERF_TYPE_HARDWARE) return ENOENT;
    return Lbr(attr) ? EOPNOTSUPP : 0;
  };
  const auto chosen = ChooseEvent(kernel, {});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->code.name, "cpu-clock");
  ASSERT_THAT(Refused(*chosen), ElementsAre(StackSource::kLbr));
  EXPECT_THAT(chosen->refusals[0].why, HasSubstr("no hardware PMU here"));
}

TEST(ChooseEvent, AClockLeavesProgramsTime) {
  FakeKernel kernel;
  EventRequest request = Request("cpu-clock");
  request.frequency_hz = kMaxClockHz;
  EXPECT_TRUE(ChooseEvent(kernel, request).ok());
  request.frequency_hz = kMaxClockHz + 1;
  const absl::Status refused = ChooseEvent(kernel, request).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("cpu-clock: 20001 Hz"), HasSubstr("20000")));
  request.frequency_hz = 0;
  request.period = 50'000;
  EXPECT_TRUE(ChooseEvent(kernel, request).ok());
  request.period = 49'999;
  EXPECT_THAT(ChooseEvent(kernel, request).status().message(), HasSubstr("each 49999 ns"));
  // A hardware event's rate is the kernel's to lower.
  request = Request("cycles");
  request.frequency_hz = kMaxClockHz + 1;
  EXPECT_TRUE(ChooseEvent(kernel, request).ok());
  // One that nobody asked for is a clock all the same.
  request.event.clear();
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return attr.type == PERF_TYPE_HARDWARE ? ENOENT : 0;
  };
  EXPECT_FALSE(ChooseEvent(kernel, request).ok());
}

TEST(ChooseEvent, LooksForCyclesAsTheRequestMayHaveThem) {
  // perf_event_paranoid = 2: own tasks' user mode only.
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return attr.exclude_kernel ? 0 : EACCES;
  };
  EventRequest request;
  request.user_only = true;
  const auto chosen = ChooseEvent(kernel, request);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->code.name, "cycles");
  request.user_only = false;
  EXPECT_EQ(ChooseEvent(kernel, request).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST(ChooseEvent, GivesTheForcedSourceOnly) {
  FakeKernel kernel;
  for (const StackSource source : {StackSource::kLbr, StackSource::kKernelDeferred,
                                   StackSource::kDwarf, StackSource::kFramePointer}) {
    const auto chosen = ChooseEvent(kernel, Forced("cycles", source));
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    EXPECT_EQ(chosen->source, source);
    EXPECT_EQ(Lbr(chosen->attr), source == StackSource::kLbr);
    EXPECT_EQ(Deferred(chosen->attr), source == StackSource::kKernelDeferred);
    EXPECT_EQ(StackCopy(chosen->attr), source == StackSource::kDwarf);
    EXPECT_THAT(chosen->refusals, IsEmpty());
  }
}

TEST(ChooseEvent, DoesNotFallBackFromAForcedSource) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return Lbr(attr) ? EOPNOTSUPP : 0;
  };
  const absl::Status status = ChooseEvent(kernel, Forced("cycles", StackSource::kLbr)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("stack mode lbr: this CPU"));
  for (const auto& attempt : kernel.attempts) EXPECT_TRUE(Lbr(attempt.attr));
}

TEST(ChooseEvent, BlamesTheForcedSourceOnlyForWhatIsItsFault) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr&, int32_t, int32_t) { return EACCES; };
  const absl::Status status = ChooseEvent(kernel, Forced("cycles", StackSource::kLbr)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("CAP_PERFMON"));
}

TEST(ChooseEvent, SaysWhatTheKernelSaidWhenNothingOpens) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr&, int32_t, int32_t) { return EMFILE; };
  for (const char* event : {"", "cycles", "cpu-clock"}) {
    const absl::Status status = ChooseEvent(kernel, Request(event)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << event;
    EXPECT_THAT(std::string(status.message()), HasSubstr("LimitNOFILE")) << event;
  }
}

TEST(ChooseEvent, KnowsNoSuchEvent) {
  FakeKernel kernel;
  const absl::Status status = ChooseEvent(kernel, Request("no-such-event")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'no-such-event'"));
  EXPECT_THAT(kernel.attempts, IsEmpty());
}

TEST(ExplainOpenError, NamesTheEventTheTargetAndWhatToDo) {
  const EventCode code{.name = "cycles"};
  const struct {
    int error;
    absl::StatusCode status;
    const char* advice;
  } cases[] = {
      {EACCES, absl::StatusCode::kPermissionDenied, "CAP_PERFMON"},
      {EPERM, absl::StatusCode::kPermissionDenied, "CAP_PERFMON"},
      {EACCES, absl::StatusCode::kPermissionDenied, "perf_event_paranoid=2"},
      {ENOENT, absl::StatusCode::kUnimplemented, "--event cpu-clock"},
      {EOPNOTSUPP, absl::StatusCode::kUnimplemented, "--event cpu-clock"},
      {ENODEV, absl::StatusCode::kUnavailable, "offline"},
      {ESRCH, absl::StatusCode::kNotFound, "no such process"},
      {EMFILE, absl::StatusCode::kResourceExhausted, "ulimit -n"},
      {ENOMEM, absl::StatusCode::kResourceExhausted, "memory"},
      {EBUSY, absl::StatusCode::kResourceExhausted, "another user"},
      {EINVAL, absl::StatusCode::kInvalidArgument, "perf_event_max_sample_rate"},
      {EOVERFLOW, absl::StatusCode::kFailedPrecondition, "perf_event_max_stack"},
      {EIO, absl::StatusCode::kUnknown, "Input/output error"},
  };
  for (const auto& [error, expected, advice] : cases) {
    const absl::Status status = ExplainOpenError(error, code, "CPU 7");
    EXPECT_EQ(status.code(), expected) << error;
    EXPECT_THAT(std::string(status.message()), HasSubstr("'cycles' on CPU 7")) << error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(advice)) << error;
  }
}

TEST(ChooseEvent, TakesStacksFromElsewhereWhereTheLbrHoldsAHistory) {
  FakeKernel kernel;
  EventRequest request = Request("cycles");
  request.branch_filter = BranchFilter::kAnyCall;
  const auto chosen = ChooseEvent(kernel, request);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->source, StackSource::kKernelDeferred);
  EXPECT_TRUE(Lbr(chosen->attr));
  EXPECT_TRUE(Deferred(chosen->attr));
  EXPECT_EQ(chosen->attr.branch_sample_type, 0x11u);
  EXPECT_THAT(Refused(*chosen), ElementsAre(StackSource::kLbr));
  EXPECT_THAT(chosen->refusals[0].why, HasSubstr("any-call"));
  request.best_source = false;
  request.source = StackSource::kLbr;
  EXPECT_TRUE(absl::IsInvalidArgument(ChooseEvent(kernel, request).status()));
  request.source = StackSource::kDwarf;
  const auto dwarf = ChooseEvent(kernel, request);
  ASSERT_TRUE(dwarf.ok()) << dwarf.status();
  EXPECT_TRUE(Lbr(dwarf->attr));
  EXPECT_TRUE(StackCopy(dwarf->attr));
}

TEST(ChooseEvent, DoesNotDropABranchFilterInSilence) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return Lbr(attr) ? EOPNOTSUPP : 0;
  };
  EventRequest request = Request("cycles");
  request.branch_filter = BranchFilter::kAny;
  const auto none = ChooseEvent(kernel, request);
  EXPECT_TRUE(absl::IsUnimplemented(none.status())) << none.status();
  EXPECT_THAT(std::string(none.status().message()),
              AllOf(HasSubstr("branch filter any: "), HasSubstr("has no LBR")));
  request.event = "";  // the counter is there, as without a filter
  EXPECT_THAT(std::string(ChooseEvent(kernel, request).status().message()),
              HasSubstr("has no LBR"));
  // What does not open without it either has another reason.
  kernel.refuse = [](const perf_event_attr&, int32_t, int32_t) { return EACCES; };
  EXPECT_TRUE(absl::IsPermissionDenied(ChooseEvent(kernel, request).status()));
}

}  // namespace
}  // namespace lbrd::pmu
