#include "pmu/event_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <utility>
#include <variant>

#include "fake_kernel.h"
#include "wire_records.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRing = 16384;
// Past TaskTarget::kSurelyInheritedNs.
constexpr uint64_t kLongAfter = 1'000'000'000;
constexpr char kOnline[] = "/sys/devices/system/cpu/online";

bool SideBand(const perf_event_attr& attr) { return attr.config == PERF_COUNT_SW_DUMMY; }

ChosenEvent CpuClock(bool read_lost = true) {
  ChosenEvent event;
  event.code = {.name = "cpu-clock",
                .type = PERF_TYPE_SOFTWARE,
                .config = PERF_COUNT_SW_CPU_CLOCK,
                .unit = "ns"};
  event.source = StackSource::kFramePointer;
  event.attr = BuildSamplingAttr(event.code, {}, {.source = event.source, .read_lost = read_lost});
  return event;
}

class EventSetTest : public ::testing::Test {
 protected:
  EventSetTest() { kernel_.files[kOnline] = "0-2\n"; }
  ~EventSetTest() override {
    EXPECT_EQ(kernel_.open_descriptors(), 0u);
    EXPECT_EQ(kernel_.mapped_rings(), 0u);
    EXPECT_EQ(kernel_.bad_closes, 0);
  }

  absl::StatusOr<std::unique_ptr<EventSet>> OpenSet(const EventTarget& target = {},
                                                    bool read_lost = true) {
    return EventSet::Open(kernel_, CpuClock(read_lost), target, kRing);
  }
  // A process of these threads on CPUs 0 and 1.
  EventTarget Process(std::vector<int32_t> tids) {
    kernel_.files[kOnline] = "0-1";
    kernel_.folders["/proc/50/task"] = std::move(tids);
    return {.pid = 50};
  }
  // (pid, CPU) of the events open now.
  std::set<std::pair<int32_t, int32_t>> Open(bool side_band) const {
    std::set<std::pair<int32_t, int32_t>> places;
    for (const auto& [fd, event] : kernel_.events()) {
      if (SideBand(event.attr) != side_band) continue;
      EXPECT_TRUE(places.emplace(event.pid, event.cpu).second) << "opened twice";
    }
    return places;
  }
  size_t Enabled(bool side_band) const {
    size_t enabled = 0;
    for (const auto& [fd, event] : kernel_.events()) {
      if (SideBand(event.attr) == side_band && event.enabled) ++enabled;
    }
    return enabled;
  }
  // What can be read now; the times of the records.
  std::vector<uint64_t> ReadTimes(EventSet* set, ReadResult* last) {
    std::vector<uint64_t> times;
    for (int i = 0; i < 10000; ++i) {
      RawRecord record;
      const auto result = set->Next(&record);
      EXPECT_TRUE(result.ok());
      *last = *result;
      if (*result != ReadResult::kRecord) return times;
      times.push_back(record.who.time);
      EXPECT_EQ(record.event, record.header->type == PERF_RECORD_SAMPLE ? 0u : 1u);
    }
    ADD_FAILURE() << "reads for ever";
    return times;
  }
  void WriteSample(int32_t cpu, uint64_t time) {
    ASSERT_TRUE(kernel_.Write(cpu, Wire({.time = time, .cpu = static_cast<uint32_t>(cpu)})));
  }

  FakeKernel kernel_;
};

TEST_F(EventSetTest, OpensAPairOfEventsAndARingPerCpu) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  const std::set<std::pair<int32_t, int32_t>> all = {{-1, 0}, {-1, 1}, {-1, 2}};
  EXPECT_EQ(Open(/*side_band=*/true), all);
  EXPECT_EQ(Open(/*side_band=*/false), all);
  EXPECT_EQ(kernel_.mapped_rings(), 3u);
  EXPECT_EQ((*set)->cpus(), 3u);
  EXPECT_EQ(kernel_.open_descriptors(), 7u);  // and the signal
  for (const auto& [fd, event] : kernel_.events()) {
    EXPECT_FALSE(event.enabled);
    EXPECT_EQ(event.attr.inherit, 0u);
    EXPECT_EQ(event.attr.watermark, 1u);
    EXPECT_EQ(event.attr.wakeup_watermark, kRing / 4);
    // One of each pair has the ring, the other one writes to it.
    if (event.output >= 0) {
      EXPECT_EQ(kernel_.events().at(event.output).cpu, event.cpu);
    }
    EXPECT_EQ(event.output < 0, !SideBand(event.attr));
  }
  ASSERT_EQ((*set)->events().size(), 2u);
  EXPECT_EQ((*set)->events()[0].name, "cpu-clock");
  EXPECT_FALSE((*set)->patient());
}

TEST_F(EventSetTest, RoundsRingsUpAndRefusesHugeOnes) {
  for (const auto& [asked, given] :
       std::vector<std::pair<uint64_t, uint64_t>>{{1, 4096}, {4097, 8192}, {8192, 8192}}) {
    const auto set = EventSet::Open(kernel_, CpuClock(), {}, asked);
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_EQ((*set)->events()[0].attr.wakeup_watermark, given / 4);
  }
  const absl::Status status = EventSet::Open(kernel_, CpuClock(), {}, kMaxRingBytes + 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(EventSetTest, StartsTheSideBandAndTheSamplesApart) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_TRUE((*set)->StartSideBand().ok());
  EXPECT_EQ(Enabled(true), 3u);
  EXPECT_EQ(Enabled(false), 0u);
  ASSERT_TRUE((*set)->StartSampling().ok());
  EXPECT_EQ(Enabled(false), 3u);
  kernel_.refuse_control = [](unsigned long) { return EIO; };
  EXPECT_FALSE((*set)->StartSampling().ok());
}

TEST_F(EventSetTest, ClosesEverythingWhicheverOpenFails) {
  // Two probes or one, then a pair per CPU: the probes may fail, all others may not.
  for (size_t failing = 1; failing < 7; ++failing) {
    kernel_.attempts.clear();
    kernel_.refuse = [&](const perf_event_attr&, int32_t, int32_t) {
      return kernel_.attempts.size() == failing ? EACCES : 0;
    };
    const auto set = OpenSet();
    EXPECT_EQ(set.status().code(), absl::StatusCode::kPermissionDenied) << failing;
    EXPECT_EQ(kernel_.open_descriptors(), 0u) << failing;
    EXPECT_EQ(kernel_.mapped_rings(), 0u) << failing;
  }
}

TEST_F(EventSetTest, ClosesEverythingWhicheverRingFails) {
  for (int failing = 0; failing < 3; ++failing) {
    int mapped = 0;
    kernel_.refuse_map = [&] { return mapped++ == failing ? EPERM : 0; };
    const absl::Status status = OpenSet().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("CPU ", failing)));
    EXPECT_THAT(std::string(status.message()), HasSubstr("perf_event_mlock_kb"));
    EXPECT_EQ(kernel_.open_descriptors(), 0u);
    EXPECT_EQ(kernel_.mapped_rings(), 0u);
  }
}

TEST_F(EventSetTest, ClosesEverythingWhenAnythingElseFails) {
  kernel_.refuse_control = [](unsigned long request) {
    return request == PERF_EVENT_IOC_SET_OUTPUT ? EINVAL : 0;
  };
  EXPECT_FALSE(OpenSet().ok());
  EXPECT_EQ(kernel_.open_descriptors(), 0u);
  kernel_.refuse_control = [](unsigned long) { return 0; };

  kernel_.signal_error = EMFILE;
  EXPECT_FALSE(OpenSet().ok());
  EXPECT_EQ(kernel_.open_descriptors(), 0u);
  kernel_.signal_error = 0;

  kernel_.files[kOnline] = "nonsense";
  EXPECT_FALSE(OpenSet().ok());
  EXPECT_EQ(kernel_.open_descriptors(), 0u);

  kernel_.pid_error = ESRCH;
  EXPECT_EQ(OpenSet(Process({50})).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(kernel_.open_descriptors(), 0u);
}

TEST_F(EventSetTest, LeavesOutCpusThatWentOffline) {
  kernel_.refuse = [](const perf_event_attr&, int32_t, int32_t cpu) {
    return cpu == 1 ? ENODEV : 0;
  };
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->cpus(), 2u);
}

TEST_F(EventSetTest, LeavesOutNoCpuWhoseHardwareIsTaken) {
  kernel_.refuse = [](const perf_event_attr& attr, int32_t, int32_t cpu) {
    return cpu == 1 && !SideBand(attr) ? EBUSY : 0;
  };
  const absl::Status status = OpenSet().status();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("CPU 1"));
}

TEST_F(EventSetTest, DoesWithoutBuildIdsOnOldKernels) {
  kernel_.refuse = [](const perf_event_attr& attr, int32_t, int32_t) {
    return attr.build_id ? EINVAL : 0;
  };
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->events()[1].attr.build_id, 0u);
  EXPECT_EQ((*set)->events()[1].attr.mmap2, 1u);
}

TEST_F(EventSetTest, FollowsEveryThreadOfAProcessOnEveryCpu) {
  const auto set = OpenSet(Process({50, 51}));
  ASSERT_TRUE(set.ok()) << set.status();
  const std::set<std::pair<int32_t, int32_t>> all = {{50, 0}, {50, 1}, {51, 0}, {51, 1}};
  EXPECT_EQ(Open(true), all);
  EXPECT_EQ(Open(false), all);
  EXPECT_EQ(kernel_.mapped_rings(), 2u);
  for (const auto& [fd, event] : kernel_.events()) EXPECT_EQ(event.attr.inherit, 1u);
  // From now on forks inherit, and must be seen.
  EXPECT_EQ(Enabled(true), 4u);
  EXPECT_EQ(Enabled(false), 0u);
}

TEST_F(EventSetTest, OpensThreadsBornMeanwhileOnce) {
  const EventTarget target = Process({50});
  int passes = 0;
  kernel_.on_list = [&](const std::string& folder) {
    ++passes;
    if (passes == 2) {
      // 52 was born of 50 long after 50's were open: it inherited them. 51 was there before.
      kernel_.folders[folder] = {50, 51, 52};
      ASSERT_TRUE(kernel_.Write(1, WireFork(50, 52, 50, 50, kLongAfter)));
    }
  };
  const auto set = OpenSet(target);
  ASSERT_TRUE(set.ok()) << set.status();
  const std::set<std::pair<int32_t, int32_t>> all = {{50, 0}, {50, 1}, {51, 0}, {51, 1}};
  EXPECT_EQ(Open(false), all);
  EXPECT_EQ(passes, 3);
  // The fork is still there for the session.
  (*set)->Finish();
  ReadResult last;
  EXPECT_EQ(ReadTimes(set->get(), &last), std::vector<uint64_t>{kLongAfter});
}

// Of a thread born while its parent's events were being opened it is not known which of them it
// inherited: it gets its own, and what is told twice is left out once.
TEST_F(EventSetTest, SamplesThreadsThatMayHaveInheritedOnce) {
  const EventTarget target = Process({50});
  int passes = 0;
  kernel_.on_list = [&](const std::string& folder) {
    if (++passes == 2) {
      kernel_.now = 6;
      kernel_.folders[folder] = {50, 51};
      ASSERT_TRUE(kernel_.Write(1, WireFork(50, 51, 50, 50, 5)));
    }
  };
  const auto set = OpenSet(target);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(Open(false),
            (std::set<std::pair<int32_t, int32_t>>{{50, 0}, {50, 1}, {51, 0}, {51, 1}}));
  EXPECT_EQ(kernel_.mapped_rings(), 4u);  // two generations
  // By the events of `by`, or their copies.
  const auto sample = [this](int32_t by, int32_t tid, uint64_t time) {
    ASSERT_TRUE(kernel_.WriteAs(by, 0, Wire({.pid = 50, .tid = tid, .time = time})));
  };
  sample(50, 50, 10);
  sample(50, 51, 11);  // inherited: left out
  sample(51, 51, 12);  // its own
  ASSERT_TRUE(kernel_.WriteAs(50, 0, WireFork(50, 52, 50, 51, 13)));
  sample(50, 52, 14);  // a grandchild, by both of its ancestors' events
  sample(51, 52, 15);
  ASSERT_TRUE(kernel_.WriteAs(50, 0, WireFork(50, 53, 50, 50, 16)));
  sample(50, 53, 17);
  ASSERT_TRUE(kernel_.Write(
      0, WireOther(PERF_RECORD_EXIT, 0, {Pair(50, 50), Pair(51, 50), 18}, 50, 51, 18)));
  ASSERT_TRUE(kernel_.WriteAs(50, 0, WireFork(50, 51, 50, 50, 19)));
  sample(50, 51, 20);  // another thread of that number
  (*set)->Finish();
  ReadResult last;
  EXPECT_EQ(ReadTimes(set->get(), &last),
            (std::vector<uint64_t>{5, 10, 12, 13, 15, 16, 17, 18, 19, 20}));
  EXPECT_EQ((*set)->stats().duplicates, 2u);
  EXPECT_EQ((*set)->stats().samples, 7u);
}

TEST_F(EventSetTest, SaysSoWhenThreadsComeFasterThanTheyCanBeFollowed) {
  const EventTarget target = Process({50});
  kernel_.descriptor_limit = 100000;
  int passes = 0;
  kernel_.on_list = [&](const std::string& folder) {
    kernel_.folders[folder].push_back(100 + passes++);
  };
  const absl::Status status = OpenSet(target).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("faster"));
  EXPECT_EQ(passes, 16);
}

TEST_F(EventSetTest, LeavesOutThreadsThatEnded) {
  kernel_.refuse = [](const perf_event_attr&, int32_t pid, int32_t) {
    return pid == 51 ? ESRCH : 0;
  };
  const auto set = OpenSet(Process({50, 51}));
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(Open(false), (std::set<std::pair<int32_t, int32_t>>{{50, 0}, {50, 1}}));
}

TEST_F(EventSetTest, KnowsNoProcessThatIsNotThere) {
  EXPECT_EQ(OpenSet({.pid = 77}).status().code(), absl::StatusCode::kNotFound);
  kernel_.refuse = [](const perf_event_attr&, int32_t pid, int32_t) {
    return pid == 50 ? ESRCH : 0;
  };
  const absl::Status status = OpenSet(Process({50})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has ended"));
}

TEST_F(EventSetTest, LeavesTheStartOfSamplingToTheExec) {
  EventTarget target = Process({50});
  target.enable_on_exec = true;
  const auto set = OpenSet(target);
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_TRUE((*set)->StartSideBand().ok());
  ASSERT_TRUE((*set)->StartSampling().ok());
  EXPECT_EQ(Enabled(true), 2u);
  EXPECT_EQ(Enabled(false), 0u);
  for (const auto& [fd, event] : kernel_.events()) {
    EXPECT_EQ(event.attr.enable_on_exec, SideBand(event.attr) ? 0u : 1u);
  }
}

TEST_F(EventSetTest, ReadsAllRingsInTimeOrderAndCounts) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  WriteSample(0, 10);
  WriteSample(0, 40);
  WriteSample(1, 20);
  ASSERT_TRUE(kernel_.Write(2, WireComm(10, 10, "a", 15)));
  ASSERT_TRUE(kernel_.Write(2, WireOther(PERF_RECORD_THROTTLE, 0, {30, 1, 1}, 10, 10, 30, 2)));
  kernel_.now = 100;
  ReadResult last;
  EXPECT_TRUE(ReadTimes(set->get(), &last).empty());
  EXPECT_EQ(last, ReadResult::kIdle);
  kernel_.now = 200;
  EXPECT_EQ(ReadTimes(set->get(), &last), (std::vector<uint64_t>{10, 15, 20, 30, 40}));
  EXPECT_EQ(last, ReadResult::kIdle);
  const SourceStats stats = (*set)->stats();
  EXPECT_EQ(stats.samples, 3u);
  EXPECT_EQ(stats.other_records, 2u);
  EXPECT_EQ(stats.throttled, 1u);
  EXPECT_EQ(stats.late_records, 0u);
  EXPECT_EQ(stats.lost_samples, 0u);
  // All was given back to the kernel.
  for (const int32_t cpu : {0, 1, 2}) {
    EXPECT_EQ(kernel_.Control(cpu)->data_tail, kernel_.Control(cpu)->data_head);
  }
}

TEST_F(EventSetTest, CountsLateRecords) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  WriteSample(0, 50);
  ReadResult last;
  kernel_.now = 100;
  ReadTimes(set->get(), &last);
  kernel_.now = 200;
  ReadTimes(set->get(), &last);
  WriteSample(1, 20);
  kernel_.now = 300;
  EXPECT_EQ(ReadTimes(set->get(), &last), std::vector<uint64_t>{20});
  EXPECT_EQ((*set)->stats().late_records, 1u);
}

TEST_F(EventSetTest, SkipsAndCountsWhatCannotBeDecoded) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  const Words no_fields = {HeaderWord(PERF_RECORD_SAMPLE, 0, 8)};
  ASSERT_TRUE(kernel_.Write(0, no_fields));
  WriteSample(0, 10);
  const Words no_size = {HeaderWord(PERF_RECORD_SAMPLE, 0, 0)};
  ASSERT_TRUE(kernel_.Write(1, no_size));
  (*set)->Finish();
  ReadResult last;
  EXPECT_EQ(ReadTimes(set->get(), &last), std::vector<uint64_t>{10});
  EXPECT_EQ((*set)->stats().undecodable, 2u);
  EXPECT_EQ((*set)->stats().samples, 1u);
}

TEST_F(EventSetTest, FinishStopsTheEventsAndHandsOutTheRest) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_TRUE((*set)->StartSideBand().ok());
  ASSERT_TRUE((*set)->StartSampling().ok());
  WriteSample(1, 10);
  WriteSample(0, 5);
  (*set)->Finish();
  EXPECT_EQ(Enabled(true) + Enabled(false), 0u);
  ReadResult last;
  EXPECT_EQ(ReadTimes(set->get(), &last), (std::vector<uint64_t>{5, 10}));
  EXPECT_EQ(last, ReadResult::kEnd);
}

TEST_F(EventSetTest, FinishReadsWhatEachEventCountedAndLost) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  kernel_.counts = [](const FakeKernel::Event& event) {
    return SideBand(event.attr) ? std::vector<uint64_t>{0, 1, 1, 7, 2}
                                : std::vector<uint64_t>{1000, 1, 1, 8, 5};
  };
  // A record of loss tells roughly while it runs, and is not counted again at the end.
  ASSERT_TRUE(kernel_.Write(0, WireLost(9, 10)));
  kernel_.now = 100;
  ReadResult last;
  ReadTimes(set->get(), &last);
  kernel_.now = 200;
  ReadTimes(set->get(), &last);
  EXPECT_EQ((*set)->stats().lost_samples, 9u);
  ASSERT_TRUE(kernel_.Write(1, WireLost(4, 210)));
  (*set)->Finish();
  EXPECT_EQ(ReadTimes(set->get(), &last), std::vector<uint64_t>{210});
  const SourceStats stats = (*set)->stats();
  EXPECT_EQ(stats.kernel_count, 3000u);
  EXPECT_EQ(stats.lost_samples, 15u);
  EXPECT_EQ(stats.lost_other, 6u);
}

TEST_F(EventSetTest, SumsHowLongTheEventsCounted) {
  kernel_.counts = [](const FakeKernel::Event& event) {
    return SideBand(event.attr) ? std::vector<uint64_t>{0, 9, 9, 7, 0}
                                : std::vector<uint64_t>{5, 1000, 250, 8, 0};
  };
  const auto machine = OpenSet();
  ASSERT_TRUE(machine.ok()) << machine.status();
  (*machine)->Finish();
  EXPECT_EQ((*machine)->stats().time_enabled_ns, 3000u);
  EXPECT_EQ((*machine)->stats().time_running_ns, 750u);
  // A thread's events on two CPUs are enabled together and run in turn.
  const auto process = OpenSet(Process({50}));
  ASSERT_TRUE(process.ok()) << process.status();
  (*process)->Finish();
  EXPECT_EQ((*process)->stats().time_enabled_ns, 1000u);
  EXPECT_EQ((*process)->stats().time_running_ns, 500u);
}

TEST_F(EventSetTest, CountsLossByItsRecordsWhereTheKernelCannotSayMore) {
  const auto set = OpenSet({}, /*read_lost=*/false);
  ASSERT_TRUE(set.ok()) << set.status();
  kernel_.counts = [](const FakeKernel::Event&) { return std::vector<uint64_t>{1, 1, 1, 8}; };
  ASSERT_TRUE(kernel_.Write(0, WireLost(9, 10)));
  ASSERT_TRUE(kernel_.Write(1, WireLost(4, 20)));
  (*set)->Finish();
  ReadResult last;
  ReadTimes(set->get(), &last);
  EXPECT_EQ((*set)->stats().lost_samples, 13u);
}

TEST_F(EventSetTest, CountsSamplesThatThePmuItselfLost) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  // Of these the rings know nothing: PEBS had no room in its buffer.
  ASSERT_TRUE(kernel_.Write(0, WireOther(PERF_RECORD_LOST_SAMPLES, 0, {3}, 10, 10, 10)));
  kernel_.now = 100;
  ReadResult last;
  ReadTimes(set->get(), &last);
  kernel_.now = 200;
  ReadTimes(set->get(), &last);
  EXPECT_EQ((*set)->stats().lost_samples, 3u);
  ASSERT_TRUE(kernel_.Write(0, WireOther(PERF_RECORD_LOST_SAMPLES, 0, {4}, 10, 10, 210)));
  (*set)->Finish();
  ReadTimes(set->get(), &last);
  EXPECT_EQ((*set)->stats().lost_samples, 7u);
}

TEST_F(EventSetTest, AnInterruptIsTakenOnce) {
  const auto set = OpenSet();
  ASSERT_TRUE(set.ok()) << set.status();
  (*set)->Interrupt();
  EXPECT_TRUE(kernel_.signalled());
  (*set)->Wait(absl::ZeroDuration());
  EXPECT_FALSE(kernel_.signalled());  // or every wait from now on would return at once
  EXPECT_FALSE((*set)->target_gone());
}

TEST_F(EventSetTest, SeesItsTargetGo) {
  const auto set = OpenSet(Process({50}));
  ASSERT_TRUE(set.ok()) << set.status();
  (*set)->Wait(absl::ZeroDuration());
  EXPECT_FALSE((*set)->target_gone());
  kernel_.process_gone = true;
  (*set)->Wait(absl::ZeroDuration());
  EXPECT_TRUE((*set)->target_gone());
}

}  // namespace
}  // namespace lbrd::pmu
