#include "pmu/event_request.h"

#include <asm/perf_regs.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const EventCode kCycles{.name = "cycles",
                        .type = PERF_TYPE_HARDWARE,
                        .config = PERF_COUNT_HW_CPU_CYCLES,
                        .unit = "cycles"};
const EventCode kCpuClock{.name = "cpu-clock",
                          .type = PERF_TYPE_SOFTWARE,
                          .config = PERF_COUNT_SW_CPU_CLOCK,
                          .unit = "ns"};

constexpr uint64_t kWhoWhenWhere =
    PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU;
constexpr uint64_t kOfEverySample =
    kWhoWhenWhere | PERF_SAMPLE_IP | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN;

// The attr's word of flags: bit 0 is `disabled`.
uint64_t Flags(const perf_event_attr& attr) {
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const char*>(&attr) + 40, sizeof(flags));
  return flags;
}

TEST(SamplingAttr, AsksForLbrCallStacksBitByBit) {
  const perf_event_attr attr = BuildSamplingAttr(kCycles, {}, {.source = StackSource::kLbr});
  EXPECT_EQ(attr.branch_sample_type, 0x2c801u);  // USER|CALL_STACK|NO_FLAGS|NO_CYCLES|HW_INDEX
  EXPECT_EQ(attr.sample_type, kOfEverySample | PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER);
  EXPECT_EQ(attr.exclude_callchain_user, 1u);
  // At least IP, SP and BP: without them the leaf of a sample taken in the kernel is lost.
  EXPECT_EQ(attr.sample_regs_user, uint64_t{1} << PERF_REG_X86_IP | uint64_t{1} << PERF_REG_X86_SP |
                                       uint64_t{1} << PERF_REG_X86_BP);
  EXPECT_EQ(attr.sample_stack_user, 0u);
  EXPECT_EQ(attr.sample_max_stack, 127u);  // from 6.15 on it caps branch entries too
}

TEST(SamplingAttr, LeavesTheHardwareIndexOutForOldKernels) {
  const perf_event_attr attr =
      BuildSamplingAttr(kCycles, {}, {.source = StackSource::kLbr, .hw_index = false});
  EXPECT_EQ(attr.branch_sample_type, 0xc801u);
}

TEST(SamplingAttr, AsksForDeferredChainsByBit38) {
  const perf_event_attr deferred =
      BuildSamplingAttr(kCycles, {}, {.source = StackSource::kKernelDeferred});
  const perf_event_attr plain =
      BuildSamplingAttr(kCycles, {}, {.source = StackSource::kFramePointer});
  EXPECT_EQ(Flags(deferred) ^ Flags(plain), uint64_t{1} << 38);
  EXPECT_EQ(Flags(plain) >> 38, 0u);
  EXPECT_EQ(deferred.exclude_callchain_user, 0u);
  EXPECT_EQ(deferred.sample_type, kOfEverySample);
}

TEST(SamplingAttr, CopiesRegistersAndStackForDwarf) {
  EventRequest request;
  request.stack_copy_bytes = 4096;
  const perf_event_attr attr = BuildSamplingAttr(kCycles, request, {.source = StackSource::kDwarf});
  EXPECT_EQ(attr.sample_type, kOfEverySample | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER);
  EXPECT_EQ(attr.sample_stack_user, 4096u);
  EXPECT_EQ(attr.sample_regs_user, 0xff0fffu);  // all but the segments', which the kernel refuses
  EXPECT_EQ(attr.exclude_callchain_user, 1u);
  EXPECT_EQ(attr.branch_sample_type, 0u);
}

TEST(SamplingAttr, LetsTheKernelWalkFramePointers) {
  const perf_event_attr attr =
      BuildSamplingAttr(kCycles, {}, {.source = StackSource::kFramePointer});
  EXPECT_EQ(attr.sample_type, kOfEverySample);
  EXPECT_EQ(attr.exclude_callchain_user, 0u);
  EXPECT_EQ(attr.branch_sample_type, 0u);
  EXPECT_EQ(attr.sample_regs_user, 0u);
  EXPECT_EQ(attr.sample_stack_user, 0u);
}

TEST(SamplingAttr, IsTheSameInAllElseForEverySource) {
  for (const StackSource source : {StackSource::kLbr, StackSource::kKernelDeferred,
                                   StackSource::kDwarf, StackSource::kFramePointer}) {
    SCOPED_TRACE(std::string(StackSourceName(source)));
    const perf_event_attr attr = BuildSamplingAttr(kCycles, {}, {.source = source});
    EXPECT_EQ(attr.size, sizeof(attr));
    EXPECT_EQ(attr.type, static_cast<uint32_t>(PERF_TYPE_HARDWARE));
    EXPECT_EQ(attr.config, static_cast<uint64_t>(PERF_COUNT_HW_CPU_CYCLES));
    EXPECT_EQ(attr.disabled, 1u);
    EXPECT_EQ(attr.sample_id_all, 1u);
    EXPECT_EQ(attr.use_clockid, 1u);
    EXPECT_EQ(attr.clockid, CLOCK_MONOTONIC);
    EXPECT_EQ(attr.inherit, 0u);
    EXPECT_EQ(attr.exclude_guest, 1u);
    EXPECT_EQ(attr.sample_type & kOfEverySample, kOfEverySample);
    EXPECT_EQ(attr.read_format, static_cast<uint64_t>(PERF_FORMAT_TOTAL_TIME_ENABLED |
                                                      PERF_FORMAT_TOTAL_TIME_RUNNING |
                                                      PERF_FORMAT_ID | PERF_FORMAT_LOST));
  }
}

TEST(SamplingAttr, SamplesByRateOrByPeriod) {
  const AttrVariant fp{.source = StackSource::kFramePointer};
  EventRequest request;
  perf_event_attr attr = BuildSamplingAttr(kCycles, request, fp);
  EXPECT_EQ(attr.freq, 1u);
  EXPECT_EQ(attr.sample_freq, kDefaultFrequencyHz);
  request.frequency_hz = 49;
  attr = BuildSamplingAttr(kCycles, request, fp);
  EXPECT_EQ(attr.freq, 1u);
  EXPECT_EQ(attr.sample_freq, 49u);
  EXPECT_NE(attr.sample_type & PERF_SAMPLE_PERIOD, 0u);
  request.frequency_hz = 0;
  request.period = 1000003;
  attr = BuildSamplingAttr(kCycles, request, fp);
  EXPECT_EQ(attr.freq, 0u);
  EXPECT_EQ(attr.sample_period, 1000003u);
  // With it the kernel would sample every software event.
  EXPECT_EQ(attr.sample_type & PERF_SAMPLE_PERIOD, 0u);
}

TEST(SamplingAttr, TakesWhoIsExcludedFromNameAndRequest) {
  const AttrVariant fp{.source = StackSource::kFramePointer};
  EventRequest request;
  perf_event_attr attr = BuildSamplingAttr(kCycles, request, fp);
  EXPECT_EQ(attr.exclude_user, 0u);
  EXPECT_EQ(attr.exclude_kernel, 0u);
  EXPECT_EQ(attr.exclude_callchain_kernel, 0u);
  request.user_only = true;
  attr = BuildSamplingAttr(kCycles, request, fp);
  EXPECT_EQ(attr.exclude_kernel, 1u);
  EXPECT_EQ(attr.exclude_callchain_kernel, 1u);
  EventCode kernel_cycles = kCycles;
  kernel_cycles.exclude_user = true;
  attr = BuildSamplingAttr(kernel_cycles, {}, fp);
  EXPECT_EQ(attr.exclude_user, 1u);
}

TEST(SamplingAttr, LeavesIdleCpusAloneByTheClocksOnly) {
  const AttrVariant fp{.source = StackSource::kFramePointer};
  EXPECT_EQ(BuildSamplingAttr(kCpuClock, {}, fp).exclude_idle, 1u);
  EXPECT_EQ(BuildSamplingAttr(kCycles, {}, fp).exclude_idle, 0u);
}

TEST(SamplingAttr, TakesPrecisionAndLossCountsFromTheVariant) {
  const perf_event_attr attr = BuildSamplingAttr(
      kCycles, {}, {.source = StackSource::kLbr, .precise_ip = 2, .read_lost = false});
  EXPECT_EQ(attr.precise_ip, 2u);
  EXPECT_EQ(attr.read_format & PERF_FORMAT_LOST, 0u);
}

TEST(SideBandAttr, CarriesWhatMustBeKnownOfProcesses) {
  const perf_event_attr attr = BuildSideBandAttr(/*build_ids=*/true, /*read_lost=*/true);
  EXPECT_EQ(attr.type, static_cast<uint32_t>(PERF_TYPE_SOFTWARE));
  EXPECT_EQ(attr.config, static_cast<uint64_t>(PERF_COUNT_SW_DUMMY));
  EXPECT_EQ(attr.sample_type, kWhoWhenWhere);
  EXPECT_EQ(attr.sample_id_all, 1u);
  EXPECT_EQ(attr.disabled, 1u);
  EXPECT_EQ(attr.mmap, 1u);
  EXPECT_EQ(attr.mmap2, 1u);
  EXPECT_EQ(attr.build_id, 1u);
  EXPECT_EQ(attr.comm, 1u);
  EXPECT_EQ(attr.comm_exec, 1u);
  EXPECT_EQ(attr.task, 1u);
  EXPECT_EQ(attr.ksymbol, 1u);
  EXPECT_EQ(attr.sample_period, 0u);
  EXPECT_EQ(attr.clockid, CLOCK_MONOTONIC);
}

TEST(SideBandAttr, ReceivesDeferredChainsByBit39WhereTheyAreAskedFor) {
  const perf_event_attr plain = BuildSideBandAttr(true, true);
  for (const StackSource source : {StackSource::kKernelDeferred, StackSource::kFramePointer}) {
    perf_event_attr attr = plain;
    ReceiveDeferredChains(BuildSamplingAttr(kCycles, {}, {.source = source}), &attr);
    EXPECT_EQ(Flags(attr) ^ Flags(plain),
              source == StackSource::kKernelDeferred ? uint64_t{1} << 39 : 0u);
  }
}

TEST(SideBandAttr, LeavesOutWhatOldKernelsDoNotKnow) {
  const perf_event_attr attr = BuildSideBandAttr(/*build_ids=*/false, /*read_lost=*/false);
  EXPECT_EQ(attr.build_id, 0u);
  EXPECT_EQ(attr.mmap2, 1u);
  EXPECT_EQ(attr.read_format & PERF_FORMAT_LOST, 0u);
}

TEST(SideBandAttr, EndsItsRecordsAsTheSamplingEventDoes) {
  // Records of both come in one ring and are told apart by nothing else.
  constexpr uint64_t kInSampleId = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ID |
                                   PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU | PERF_SAMPLE_IDENTIFIER;
  const perf_event_attr side_band = BuildSideBandAttr(true, true);
  const perf_event_attr sampling = BuildSamplingAttr(kCycles, {}, {.source = StackSource::kLbr});
  EXPECT_EQ(side_band.sample_type & kInSampleId, sampling.sample_type & kInSampleId);
}

TEST(DescribeAttr, NamesWhatIsSetAndNothingElse) {
  const std::string lbr =
      DescribeAttr(BuildSamplingAttr(kCycles, {}, {.source = StackSource::kLbr}));
  EXPECT_THAT(lbr, HasSubstr("branch_sample_type=0x2c801"));
  EXPECT_THAT(lbr, HasSubstr("sample_freq=999"));
  EXPECT_THAT(lbr, Not(HasSubstr("defer")));
  EXPECT_THAT(lbr, Not(HasSubstr("sample_stack_user")));
  const std::string deferred =
      DescribeAttr(BuildSamplingAttr(kCycles, {}, {.source = StackSource::kKernelDeferred}));
  EXPECT_THAT(deferred, HasSubstr("defer_callchain=1"));
}

TEST(DescribeAttr, LeavesNothingOut) {
  // Every field at a value of its own, so that none can stand in for another.
  perf_event_attr attr;
  std::memset(&attr, 0xff, sizeof(attr));
  attr.freq = 0;
  const std::string all = DescribeAttr(attr);
  for (const char* field : {"type",
                            "config",
                            "config1",
                            "config2",
                            "sample_period",
                            "sample_type",
                            "read_format",
                            "disabled",
                            "inherit",
                            "pinned",
                            "exclusive",
                            "exclude_user",
                            "exclude_kernel",
                            "exclude_hv",
                            "exclude_idle",
                            "mmap",
                            "comm",
                            "inherit_stat",
                            "enable_on_exec",
                            "task",
                            "watermark",
                            "precise_ip",
                            "mmap_data",
                            "sample_id_all",
                            "exclude_host",
                            "exclude_guest",
                            "exclude_callchain_kernel",
                            "exclude_callchain_user",
                            "mmap2",
                            "comm_exec",
                            "use_clockid",
                            "context_switch",
                            "write_backward",
                            "namespaces",
                            "ksymbol",
                            "bpf_event",
                            "aux_output",
                            "cgroup",
                            "text_poke",
                            "build_id",
                            "inherit_thread",
                            "remove_on_exec",
                            "sigtrap",
                            "defer_callchain",
                            "defer_output",
                            "wakeup_watermark",
                            "bp_type",
                            "branch_sample_type",
                            "sample_regs_user",
                            "sample_stack_user",
                            "clockid",
                            "sample_regs_intr",
                            "aux_watermark",
                            "sample_max_stack",
                            "aux_sample_size",
                            "sig_data"}) {
    EXPECT_THAT(absl::StrCat(" ", all), HasSubstr(absl::StrCat(" ", field, "=")));
  }
  EXPECT_EQ(DescribeAttr(perf_event_attr{}), "type=0");
  EXPECT_EQ(DescribeAttr(BuildSideBandAttr(true, true)),
            "type=1 config=0x9 sample_type=0x10086 read_format=0x17 disabled=1 exclude_kernel=1 "
            "mmap=1 comm=1 task=1 sample_id_all=1 mmap2=1 comm_exec=1 use_clockid=1 ksymbol=1 "
            "build_id=1 clockid=1");
}

}  // namespace
}  // namespace lbrd::pmu
