#include "pmu/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "fake_kernel.h"
#include "known_child.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

bool Lbr(const perf_event_attr& attr) { return (attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0; }
bool Deferred(const perf_event_attr& attr) {
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const char*>(&attr) + 40, sizeof(flags));
  return (flags & kAttrDeferCallchain) != 0;
}
bool Breakpoint(const perf_event_attr& attr) { return attr.type == PERF_TYPE_BREAKPOINT; }

// A machine where all is well, of 4 breakpoints; each test takes something away.
class ProbeTest : public ::testing::Test {
 protected:
  ProbeTest() {
    kernel_.files = {
        {"/sys/devices/system/cpu/online", "0-3\n"},
        {"/sys/bus/event_source/devices/cpu/caps/branches", "32\n"},
        {"/proc/sys/kernel/perf_event_paranoid", "2\n"},
        {"/proc/sys/kernel/perf_event_mlock_kb", "516\n"},
        {"/proc/sys/kernel/perf_event_max_stack", "127\n"},
        {"/proc/sys/kernel/nmi_watchdog", "0\n"},
        {"/proc/self/stat", "50 (lbrd) S 1"},
        {"/proc/self/status", "Name:\tlbrd\nCapEff:\t000001ffffffffff\n"},
        {"/proc/self/limits",
         "Limit   Soft Limit  Hard Limit  Units\n"
         "Max locked memory         8388608              8388608     bytes\n"},
    };
    kernel_.folders["/proc"] = {};
    kernel_.counts = [this](const FakeKernel::Event&) {
      return std::vector<uint64_t>{1, 1000, running_, 1, 0};
    };
    kernel_.refuse = [this](const perf_event_attr& attr, int32_t pid, int32_t cpu) {
      if (Breakpoint(attr) && breakpoints_ == 0) return ENOSPC;
      if (Breakpoint(attr)) --breakpoints_;
      return refuse_ ? refuse_(attr, pid, cpu) : 0;
    };
    kernel_.refuse_control = [this](unsigned long request) {
      // The experiment's event: the child that is not there has run, and slept.
      if (request == PERF_EVENT_IOC_ENABLE) {
        for (int i = 0; i < 50; ++i) kernel_.Write(1, LbrSample(KnownChild(), calls_in_window_));
      }
      return 0;
    };
  }
  ~ProbeTest() override {
    EXPECT_EQ(kernel_.open_descriptors(), 0u) << "a probe gave something not back";
    EXPECT_EQ(kernel_.mapped_rings(), 0u);
    EXPECT_EQ(kernel_.bad_closes, 0);
  }

  MachineProbes Probe(bool experiments = true) {
    StartSwitchingChild start;
    if (experiments) {
      start = [this]() -> absl::StatusOr<std::unique_ptr<SwitchingChild>> {
        ++children_;
        if (!child_status_.ok()) return child_status_;
        return std::make_unique<KnownChild>();
      };
    }
    return ProbeMachine(kernel_, start);
  }
  pmu::Probe Find(const MachineProbes& found, const std::string& name) {
    for (const pmu::Probe& probe : found.probes) {
      if (probe.name == name) return probe;
    }
    ADD_FAILURE() << "there is no probe " << name;
    return {};
  }
  pmu::Probe Find(const std::string& name) { return Find(Probe(), name); }

  FakeKernel kernel_;
  std::function<int(const perf_event_attr&, int32_t, int32_t)> refuse_;
  size_t breakpoints_ = 4;
  uint32_t calls_in_window_ = 20;
  uint64_t running_ = 1000;
  int children_ = 0;
  absl::Status child_status_;
};

TEST_F(ProbeTest, FindsNothingWrongWhereAllIsWell) {
  const MachineProbes found = Probe();
  EXPECT_GE(found.probes.size(), 14u);
  for (const pmu::Probe& probe : found.probes) {
    EXPECT_EQ(probe.verdict, ProbeVerdict::kOk) << probe.name << ": " << probe.value;
    EXPECT_THAT(probe.value, Not(IsEmpty())) << probe.name;
    EXPECT_THAT(probe.why, Not(IsEmpty())) << probe.name;
    EXPECT_THAT(probe.action, IsEmpty()) << probe.name;
  }
  EXPECT_EQ(found.lbr_depth, 32u);
  ASSERT_TRUE(found.lbr_survival.has_value());
  EXPECT_TRUE(found.lbr_survival->survives());
  EXPECT_EQ(children_, 1);
}

TEST_F(ProbeTest, MakesNoExperimentUnlessAsked) {
  const MachineProbes found = Probe(/*experiments=*/false);
  EXPECT_EQ(Find(found, "lbr-over-switches").verdict, ProbeVerdict::kNotTried);
  EXPECT_EQ(Find(found, "lbr-holders").verdict, ProbeVerdict::kNotTried);
  EXPECT_FALSE(found.lbr_survival.has_value());
  for (const FakeKernel::Attempt& attempt : kernel_.attempts) {
    EXPECT_FALSE(Lbr(attempt.attr) && attempt.pid == -1 && attempt.cpu == 1);
  }
}

TEST_F(ProbeTest, TellsThatLbrIsLostAtSwitches) {
  calls_in_window_ = 1;
  const MachineProbes found = Probe();
  const pmu::Probe probe = Find(found, "lbr-over-switches");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(probe.value, HasSubstr("lost"));
  EXPECT_THAT(probe.why, HasSubstr("median of 50 windows has 1 "));
  EXPECT_THAT(probe.action, HasSubstr("6.15"));
  EXPECT_FALSE(found.lbr_survival->survives());
  EXPECT_EQ(Find(found, "lbr").verdict, ProbeVerdict::kOk);
}

TEST_F(ProbeTest, DoesNotTakeTimeSharingForAKernelThatClearsLbr) {
  calls_in_window_ = 0;
  running_ = 470;
  const MachineProbes found = Probe();
  const pmu::Probe probe = Find(found, "lbr-over-switches");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_EQ(probe.value, "could not be found out");
  EXPECT_THAT(probe.why, HasSubstr("others had LBR"));
  EXPECT_FALSE(found.lbr_survival->conclusive());
  calls_in_window_ = 20;
  breakpoints_ = 4;
  EXPECT_EQ(Find("lbr-over-switches").verdict, ProbeVerdict::kOk);  // whole all the same
}

TEST_F(ProbeTest, SaysWhyTheExperimentFailed) {
  child_status_ = absl::ResourceExhaustedError("no more processes");
  const MachineProbes found = Probe();
  const pmu::Probe probe = Find(found, "lbr-over-switches");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_EQ(probe.why, "no more processes");
  EXPECT_FALSE(found.lbr_survival.has_value());
}

TEST_F(ProbeTest, NamesTheKernelsRefusalOfLbr) {
  for (const int error : {ENOENT, EOPNOTSUPP, EBUSY}) {
    breakpoints_ = 4;
    refuse_ = [error](const perf_event_attr& attr, int32_t, int32_t) {
      return Lbr(attr) ? error : 0;
    };
    const MachineProbes found = Probe();
    const pmu::Probe probe = Find(found, "lbr");
    EXPECT_EQ(probe.verdict, ProbeVerdict::kMissing);
    EXPECT_THAT(probe.why, HasSubstr(strerror(error)));
    EXPECT_THAT(probe.action, Not(IsEmpty()));
    EXPECT_EQ(Find(found, "lbr-over-switches").verdict, ProbeVerdict::kNotTried);
    EXPECT_EQ(Find(found, "lbr-holders").verdict, ProbeVerdict::kNotTried);
    EXPECT_EQ(found.lbr_depth, 0u);
  }
  EXPECT_EQ(children_, 0);
}

TEST_F(ProbeTest, FallsBackToTheClockWithoutAPmu) {
  refuse_ = [](const perf_event_attr& attr, int32_t, int32_t) {
    return attr.type == PERF_TYPE_HARDWARE ? ENOENT : Lbr(attr) ? EOPNOTSUPP : 0;
  };
  const MachineProbes found = Probe();
  const pmu::Probe probe = Find(found, "default-event");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(probe.value, HasSubstr("cpu-clock"));
  EXPECT_THAT(probe.why, HasSubstr("No such file or directory"));
  EXPECT_EQ(Find(found, "nmi-watchdog").verdict, ProbeVerdict::kNotTried);
  EXPECT_EQ(Find(found, "perf-events").verdict, ProbeVerdict::kOk);
  EXPECT_EQ(found.chosen->source, StackSource::kKernelDeferred);
}

TEST_F(ProbeTest, FindsWhatOldKernelsLack) {
  refuse_ = [](const perf_event_attr& attr, int32_t, int32_t) {
    const bool young =
        Deferred(attr) || attr.build_id || (attr.read_format & PERF_FORMAT_LOST) != 0;
    return young ? EINVAL : 0;
  };
  const MachineProbes found = Probe();
  EXPECT_EQ(Find(found, "kernel-deferred").verdict, ProbeVerdict::kMissing);
  EXPECT_THAT(Find(found, "kernel-deferred").action, HasSubstr("6.19"));
  EXPECT_EQ(Find(found, "build-ids").verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(Find(found, "build-ids").action, HasSubstr("5.12"));
  EXPECT_EQ(Find(found, "lost-counts").verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(Find(found, "lost-counts").value, HasSubstr("Invalid argument"));
  EXPECT_EQ(Find(found, "lbr").verdict, ProbeVerdict::kOk);
}

TEST_F(ProbeTest, CannotWorkWithoutPermission) {
  refuse_ = [](const perf_event_attr&, int32_t, int32_t) { return EACCES; };
  kernel_.files["/proc/sys/kernel/perf_event_paranoid"] = "4\n";
  const MachineProbes found = Probe();
  const pmu::Probe probe = Find(found, "perf-events");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kMissing);
  EXPECT_TRUE(probe.essential);
  EXPECT_THAT(probe.why, HasSubstr("not permitted"));
  EXPECT_THAT(probe.action, HasSubstr("CAP_PERFMON"));
  EXPECT_EQ(Find(found, "paranoid-level").verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(Find(found, "paranoid-level").value, HasSubstr("4"));
  EXPECT_THAT(Find(found, "paranoid-level").action, HasSubstr("perf_event_paranoid=2"));
  EXPECT_FALSE(found.chosen.ok());
}

TEST_F(ProbeTest, CannotWorkWithProcessesAlone) {
  refuse_ = [](const perf_event_attr&, int32_t pid, int32_t) { return pid == -1 ? EACCES : 0; };
  const pmu::Probe probe = Find("perf-events");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kMissing);
  EXPECT_THAT(probe.value, HasSubstr("CPU"));
}

TEST_F(ProbeTest, CountsBreakpointSlots) {
  breakpoints_ = 1;
  EXPECT_EQ(Find("breakpoints").verdict, ProbeVerdict::kDegraded);
  breakpoints_ = 0;
  const pmu::Probe probe = Find("breakpoints");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kMissing);
  EXPECT_THAT(probe.why, HasSubstr("No space left"));
}

TEST_F(ProbeTest, TriesARingAndHoldsTheLimitsAgainstTheRest) {
  EXPECT_EQ(Find("ring-memory").verdict, ProbeVerdict::kOk);  // CAP_IPC_LOCK
  kernel_.files["/proc/self/status"] = "CapEff:\t0000004000000000\n";
  pmu::Probe probe = Find("ring-memory");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_EQ(probe.value, "10 MiB of the 32 MiB needed");
  EXPECT_THAT(probe.action, HasSubstr("perf_event_mlock_kb"));
  kernel_.files["/proc/sys/kernel/perf_event_paranoid"] = "-1\n";
  EXPECT_EQ(Find("ring-memory").verdict, ProbeVerdict::kOk);
  kernel_.files["/proc/sys/kernel/perf_event_paranoid"] = "2\n";
  kernel_.files["/proc/self/limits"] = "Max locked memory    unlimited  unlimited  bytes\n";
  EXPECT_EQ(Find("ring-memory").verdict, ProbeVerdict::kOk);
  kernel_.refuse_map = [] { return EPERM; };
  probe = Find("ring-memory");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(probe.value, HasSubstr("Operation not permitted"));
}

TEST_F(ProbeTest, ReadsTheLimitOfChains) {
  kernel_.files["/proc/sys/kernel/perf_event_max_stack"] = "64\n";
  const pmu::Probe probe = Find("chain-depth");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_EQ(probe.action, "sysctl kernel.perf_event_max_stack=127");
}

TEST_F(ProbeTest, BlamesTheWatchdogOnlyWhereCountersAreShort) {
  kernel_.files["/proc/sys/kernel/nmi_watchdog"] = "1\n";
  EXPECT_EQ(Find("nmi-watchdog").verdict, ProbeVerdict::kOk);
  EXPECT_THAT(Find("nmi-watchdog").value, HasSubstr("on"));
  running_ = 500;
  EXPECT_EQ(Find("nmi-watchdog").verdict, ProbeVerdict::kDegraded);
  kernel_.folders["/proc"] = {60};
  kernel_.files["/proc/60/maps"] = "7f00-7f01 rw-s 0 00:0e 11 anon_inode:[perf_event]\n";
  EXPECT_EQ(Find("nmi-watchdog").verdict, ProbeVerdict::kOk);  // more likely it is that one
}

TEST_F(ProbeTest, NamesWhoElseSamples) {
  kernel_.folders["/proc"] = {60};
  kernel_.files["/proc/60/maps"] = "7f00-7f01 rw-s 0 00:0e 11 anon_inode:[perf_event]\n";
  kernel_.files["/proc/60/comm"] = "perf\n";
  pmu::Probe probe = Find("lbr-holders");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kOk);
  EXPECT_THAT(probe.why, HasSubstr("perf (pid 60)"));
  running_ = 470;
  probe = Find("lbr-holders");
  EXPECT_EQ(probe.verdict, ProbeVerdict::kDegraded);
  EXPECT_THAT(probe.value, HasSubstr("47 %"));
  EXPECT_THAT(probe.why, HasSubstr("perf (pid 60)"));
}

}  // namespace
}  // namespace lbrd::pmu
