#include "daemon/broker_policy.h"

#include <gtest/gtest.h>
#include <linux/hw_breakpoint.h>

#include "pmu/event_request.h"

namespace lbrd::daemon {
namespace {

const EventTypes kTypes{.dynamic = {8}};

perf_event_attr Sampling() {
  return pmu::BuildSamplingAttr({.name = "cpu-clock", .type = PERF_TYPE_SOFTWARE},
                                {.frequency_hz = 99}, {.source = pmu::StackSource::kDwarf});
}

absl::Status Check(const perf_event_attr& wanted, int32_t pid = -1, int32_t cpu = 0,
                   uint64_t flags = 0, bool descriptor = false) {
  perf_event_attr attr;
  return CheckOpenEvent({.call = BrokerCall::kOpenEvent,
                         .pid = pid,
                         .cpu = cpu,
                         .flags = flags,
                         .payload = {reinterpret_cast<const char*>(&wanted), sizeof(wanted)}},
                        descriptor, kTypes, &attr);
}

TEST(BrokerPolicyTest, AllThatLbrdBuildsIsGranted) {
  for (const pmu::StackSource source :
       {pmu::StackSource::kLbr, pmu::StackSource::kKernelDeferred, pmu::StackSource::kDwarf,
        pmu::StackSource::kFramePointer}) {
    perf_event_attr attr =
        pmu::BuildSamplingAttr({.name = "cycles", .type = PERF_TYPE_HARDWARE}, {.frequency_hz = 99},
                               {.source = source, .precise_ip = 2});
    attr.inherit = 1;
    attr.enable_on_exec = 1;
    attr.watermark = 1;
    EXPECT_TRUE(Check(attr).ok()) << Check(attr) << pmu::DescribeAttr(attr);
    perf_event_attr side_band = pmu::BuildSideBandAttr(true, true);
    pmu::ReceiveDeferredChains(attr, &side_band);
    EXPECT_TRUE(Check(side_band).ok()) << Check(side_band);
  }
  perf_event_attr breakpoint = Sampling();
  breakpoint.type = PERF_TYPE_BREAKPOINT;
  breakpoint.bp_type = HW_BREAKPOINT_RW;
  EXPECT_TRUE(Check(breakpoint, 5, -1).ok());
  EXPECT_TRUE(Check(Sampling(), -1, 0, PERF_FLAG_PID_CGROUP, true).ok());
}

TEST(BrokerPolicyTest, TypesThatDoMoreThanCountAreRefused) {
  perf_event_attr attr = Sampling();
  attr.type = 8;
  EXPECT_TRUE(Check(attr).ok());
  for (const uint32_t type : {6u, 7u, 9u, 4711u, ~0u}) {
    attr.type = type;
    EXPECT_TRUE(absl::IsPermissionDenied(Check(attr))) << type;
  }
  EXPECT_FALSE(IsHarmlessPmu("kprobe"));
  EXPECT_FALSE(IsHarmlessPmu("uprobe"));
  EXPECT_FALSE(IsHarmlessPmu("intel_pt"));
  EXPECT_TRUE(IsHarmlessPmu("cpu"));
  EXPECT_TRUE(IsHarmlessPmu("uncore_imc_0"));
}

TEST(BrokerPolicyTest, AttrsThatTakeOrTellMoreAreRefused) {
  const auto refused = [](auto change) {
    perf_event_attr attr = Sampling();
    change(attr);
    return absl::IsPermissionDenied(Check(attr));
  };
  EXPECT_TRUE(refused([](auto& attr) { attr.pinned = 1; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.exclusive = 1; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.sigtrap = 1; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.aux_output = 1; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.write_backward = 1; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.sample_type |= PERF_SAMPLE_PHYS_ADDR; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.sample_type |= PERF_SAMPLE_RAW; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.sample_type |= PERF_SAMPLE_REGS_INTR; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.sample_regs_intr = 1; }));
  EXPECT_TRUE(refused([](auto& attr) { attr.aux_sample_size = 1; }));
  EXPECT_FALSE(refused([](auto&) {}));
}

TEST(BrokerPolicyTest, PlacesThatAreNone) {
  EXPECT_TRUE(Check(Sampling(), 5, -1).ok());
  EXPECT_FALSE(Check(Sampling(), 0, -1).ok()) << "that is the broker";
  EXPECT_FALSE(Check(Sampling(), -1, -1).ok());
  EXPECT_FALSE(Check(Sampling(), -2, 0).ok());
  EXPECT_FALSE(Check(Sampling(), 5, -2).ok());
  EXPECT_FALSE(Check(Sampling(), 5, kMaxCpu + 1).ok());
  EXPECT_FALSE(Check(Sampling(), -1, 0, PERF_FLAG_FD_OUTPUT).ok());
  EXPECT_FALSE(Check(Sampling(), -1, 0, PERF_FLAG_PID_CGROUP).ok()) << "without its folder";
  EXPECT_FALSE(Check(Sampling(), 5, 0, PERF_FLAG_PID_CGROUP, true).ok());
  EXPECT_FALSE(Check(Sampling(), -1, 0, 0, true).ok()) << "a descriptor for nothing";
}

TEST(BrokerPolicyTest, AnAttrOfAnotherSizeIsRefused) {
  perf_event_attr attr = Sampling();
  attr.size = sizeof(attr) - 8;
  EXPECT_FALSE(Check(attr).ok());
  perf_event_attr out;
  EXPECT_FALSE(CheckOpenEvent({.cpu = 0, .payload = "short"}, false, kTypes, &out).ok());
}

TEST(BrokerPolicyTest, Paths) {
  EXPECT_TRUE(CheckAbsolutePath("/usr/bin/true").ok());
  EXPECT_FALSE(CheckAbsolutePath("usr/bin/true").ok());
  EXPECT_FALSE(CheckAbsolutePath(absl::string_view("/etc\0/x", 7)).ok());
  EXPECT_TRUE(CheckCgroupPath("unified/system.slice/a..b").ok());
  EXPECT_FALSE(CheckCgroupPath("unified/../../../etc").ok());
  EXPECT_FALSE(CheckCgroupPath("..").ok());
  EXPECT_TRUE(CheckPid(1, false).ok());
  EXPECT_FALSE(CheckPid(-1, false).ok());
  EXPECT_TRUE(CheckPid(-1, true).ok());
  EXPECT_FALSE(CheckPid(0, true).ok());
  EXPECT_FALSE(CheckPid(kMaxPid + 1, true).ok());
}

TEST(BrokerPolicyTest, Rings) {
  EXPECT_TRUE(CheckRingBytes(4096 + (8 << 20), 4096).ok());
  EXPECT_FALSE(CheckRingBytes(0, 4096).ok());
  EXPECT_FALSE(CheckRingBytes(4097, 4096).ok());
  EXPECT_FALSE(CheckRingBytes(uint64_t{1} << 40, 4096).ok());
}

TEST(BrokerPolicyTest, WhatSystemdMayHear) {
  EXPECT_TRUE(CheckNotification("READY=1").ok());
  EXPECT_TRUE(CheckNotification("STATUS=2 sessions, 1,234 samples/s\nWATCHDOG=1").ok());
  EXPECT_FALSE(CheckNotification("MAINPID=1").ok());
  EXPECT_FALSE(CheckNotification("STATUS=x\nFDSTORE=1").ok());
  EXPECT_FALSE(CheckNotification("STATUS=\x1b[2J").ok());
  EXPECT_FALSE(CheckNotification("STATUS=" + std::string(600, 'x')).ok());
}

TEST(BrokerPolicyTest, BinariesAndMaps) {
  const auto binary = [](absl::string_view start) {
    return IsBinary(std::as_bytes(std::span(start.data(), start.size())));
  };
  EXPECT_TRUE(
      binary("\x7f"
             "ELF"));
  EXPECT_TRUE(binary("DTiJ"));
  EXPECT_FALSE(binary("root:x:0"));
  EXPECT_FALSE(
      binary("\x7f"
             "EL"));
  EXPECT_TRUE(IsPerfMap(1000, 0600, 1000));
  EXPECT_TRUE(IsPerfMap(0, 0644, 1000));
  EXPECT_FALSE(IsPerfMap(0, 0600, 1000)) << "root's secret, bound there";
  EXPECT_FALSE(IsPerfMap(1001, 0644, 1000));
}

}  // namespace
}  // namespace lbrd::daemon
