#include "pmu/breakpoint_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>

#include <cerrno>

#include "fake_kernel.h"
#include "pmu/event_request.h"
#include "pmu/stack_source.h"

namespace lbrd::pmu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Spelled {
  const char* name;
  uint64_t address;
  uint64_t length;
  uint32_t type;
};

TEST(BreakpointName, ReadsWhatPerfReadsAndTheLengthAsAPart) {
  const Spelled all[] = {
      {"mem:0x7ffe1230", 0x7ffe1230, 4, HW_BREAKPOINT_RW},
      {"mem:4096", 4096, 4, HW_BREAKPOINT_RW},
      {"mem:0x7ffe1230:w", 0x7ffe1230, 4, HW_BREAKPOINT_W},
      {"mem:0x7ffe1230:rw", 0x7ffe1230, 4, HW_BREAKPOINT_RW},
      {"mem:0x7ffe1230:wr", 0x7ffe1230, 4, HW_BREAKPOINT_RW},
      {"mem:0x7ffe1231/1:w", 0x7ffe1231, 1, HW_BREAKPOINT_W},
      {"mem:0x7ffe1232:2:w", 0x7ffe1232, 2, HW_BREAKPOINT_W},
      {"mem:0x7ffe1238/8", 0x7ffe1238, 8, HW_BREAKPOINT_RW},
      {"mem:0x7ffe1238:8", 0x7ffe1238, 8, HW_BREAKPOINT_RW},
      {"mem:0x401137:x", 0x401137, 8, HW_BREAKPOINT_X},
      {"mem:0x401137/8:x", 0x401137, 8, HW_BREAKPOINT_X},
      {"mem:0xffffffff81000000:w", 0xffffffff81000000, 4, HW_BREAKPOINT_W},
  };
  for (const Spelled& spelled : all) {
    const auto code = FindEvent(spelled.name);
    ASSERT_TRUE(code.ok()) << code.status();
    EXPECT_TRUE(code->breakpoint());
    EXPECT_EQ(code->name, spelled.name);
    EXPECT_EQ(code->config1, spelled.address) << spelled.name;
    EXPECT_EQ(code->config2, spelled.length) << spelled.name;
    EXPECT_EQ(code->breakpoint_type, spelled.type) << spelled.name;
    EXPECT_EQ(code->unit, "hits");
    EXPECT_FALSE(code->exclude_user || code->exclude_kernel);
  }
}

TEST(BreakpointName, TakesModifiersOfTheMode) {
  EXPECT_TRUE(FindEvent("mem:0x10:w:u")->exclude_kernel);
  EXPECT_FALSE(FindEvent("mem:0x10:w:u")->exclude_user);
  EXPECT_TRUE(FindEvent("mem:0x10:k")->exclude_user);
  EXPECT_FALSE(FindEvent("mem:0x10/8:rw:uk")->exclude_user);
}

TEST(BreakpointName, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> all[] = {
      {"mem:", "'' is not an address"},
      {"mem:here", "'here' is not an address"},
      {"mem:0x", "'0x' is not an address"},
      {"mem:0x-8", "is not an address"},
      {"mem:-8", "is not an address"},
      {"mem:0x10000000000000000", "is not an address"},
      {"mem:0x7ffe1231:w", "not a multiple of the length, 4"},
      {"mem:0x7ffe1234/8", "not a multiple of the length, 8"},
      {"mem:0x7ffe1234/3", "'3' is not a length"},
      {"mem:0x7ffe1234/", "no length after"},
      {"mem:0x7ffe1234:16", "'16' is not a length"},
      {"mem:0x7ffe1234/4:4", "'4' is neither"},
      {"mem:0x7ffe1234:w:4", "'4' is neither"},
      {"mem:0x7ffe1234:r", "use rw"},
      {"mem:0x7ffe1234:rx", "goes alone"},
      {"mem:0x7ffe1234:rwx", "goes alone"},
      {"mem:0x401136/4:x", "has length 8"},
      {"mem:0x7ffe1234:ww", "'ww' is neither"},
      {"mem:0x7ffe1234:w:rw", "there twice"},
      {"mem:0x7ffe1234:u:w", "'w' is neither"},
      {"mem:0x7ffe1234::w", "'' is neither"},
      {"mem:0x7ffe1234:p", "'p' is neither"},
  };
  for (const auto& [name, what] : all) {
    const absl::Status status = FindEvent(name).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << ": " << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(what), HasSubstr("look like")));
  }
}

TEST(BreakpointAttr, SamplesEveryHitUnlessToldOtherwise) {
  const EventCode code = *FindEvent("mem:0x7ffe1230/8:w:u");
  const perf_event_attr attr = BuildSamplingAttr(code, {}, {.source = StackSource::kFramePointer});
  EXPECT_EQ(attr.type, PERF_TYPE_BREAKPOINT);
  EXPECT_EQ(attr.config, 0u);
  EXPECT_EQ(attr.bp_addr, 0x7ffe1230u);
  EXPECT_EQ(attr.bp_len, 8u);
  EXPECT_EQ(attr.bp_type, HW_BREAKPOINT_W);
  EXPECT_EQ(attr.freq, 0u);
  EXPECT_EQ(attr.sample_period, 1u);
  EXPECT_EQ(attr.exclude_kernel, 1u);
  EXPECT_THAT(DescribeAttr(attr), HasSubstr("config1=0x7ffe1230 config2=0x8 bp_type=2"));
  // With PERIOD in the sample the kernel would take no notice of a period of 10.
  EXPECT_EQ(BuildSamplingAttr(code, {.period = 10}, {}).sample_period, 10u);
  EXPECT_EQ(BuildSamplingAttr(code, {.period = 10}, {}).sample_type & PERF_SAMPLE_PERIOD, 0u);
  EXPECT_NE(BuildSamplingAttr(code, {.frequency_hz = 50}, {}).sample_type & PERF_SAMPLE_PERIOD, 0u);
  EXPECT_EQ(BuildSamplingAttr(code, {.frequency_hz = 50}, {}).freq, 1u);
}

TEST(BreakpointSource, IsNotLbrAndNotPrecise) {
  FakeKernel kernel;
  kernel.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return (attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0 ? EOPNOTSUPP : 0;
  };
  EventRequest request;
  request.event = "mem:0x7ffe1230:w";
  const auto chosen = ChooseEvent(kernel, request);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->attr.precise_ip, 0u);
  ASSERT_EQ(chosen->refusals.size(), 1u);
  EXPECT_THAT(chosen->refusals[0].why, HasSubstr("is a breakpoint, which carries no branch stack"));
}

TEST(BreakpointSource, TellsWhoHoldsWhatAdmissionDoesNotKnow) {
  const EventCode code = *FindEvent("mem:0x7ffe1230:w");
  EXPECT_THAT(std::string(ExplainOpenError(ENOSPC, code, "thread 7").message()),
              HasSubstr("outside lbrd (a debugger, perf)"));
  EXPECT_THAT(std::string(ExplainOpenError(EINVAL, code, "thread 7").message()),
              HasSubstr("lets nobody break there"));
}

}  // namespace
}  // namespace lbrd::pmu
