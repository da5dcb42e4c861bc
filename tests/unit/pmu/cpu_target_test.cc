// CPUs that come and go under a session, through EventSet as the daemon reads it.
#include "pmu/cpu_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "fake_kernel.h"
#include "pmu/event_set.h"
#include "wire_records.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRing = 16384;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr char kOnline[] = "/sys/devices/system/cpu/online";
constexpr char kPresent[] = "/sys/devices/system/cpu/present";

bool SideBand(const perf_event_attr& attr) { return attr.config == PERF_COUNT_SW_DUMMY; }

ChosenEvent Chosen(uint32_t type, uint64_t config) {
  ChosenEvent event;
  event.code = {.name = "made-up", .type = type, .config = config, .unit = "1"};
  event.source = StackSource::kFramePointer;
  event.attr = BuildSamplingAttr(event.code, {}, {.source = event.source});
  return event;
}

class CpuTargetTest : public ::testing::Test {
 protected:
  CpuTargetTest() {
    kernel_.files[kOnline] = "0-2\n";
    kernel_.files[kPresent] = "0-3\n";
    kernel_.now = kSecond;
    kernel_.refuse = [this](const perf_event_attr&, int32_t, int32_t cpu) {
      const auto found = errors_.find(cpu);
      return found == errors_.end() ? 0 : found->second;
    };
    // Time goes on for events that were not taken off their CPU.
    kernel_.counts = [this](const FakeKernel::Event& event) {
      const auto died = died_.find(event.cpu);
      const uint64_t until = died == died_.end() ? kernel_.now : died->second;
      const uint64_t enabled = until > kSecond ? until - kSecond : 0;
      return std::vector<uint64_t>{SideBand(event.attr) ? 0u : 7u, enabled, enabled, 0, 3};
    };
  }
  ~CpuTargetTest() override {
    EXPECT_EQ(kernel_.open_descriptors(), 0u);
    EXPECT_EQ(kernel_.mapped_rings(), 0u);
    EXPECT_EQ(kernel_.bad_closes, 0);
  }

  std::unique_ptr<EventSet> Start(const EventTarget& target = {}) {
    auto set =
        EventSet::Open(kernel_, Chosen(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK), target, kRing);
    EXPECT_TRUE(set.ok()) << set.status();
    EXPECT_TRUE((*set)->StartSideBand().ok());
    EXPECT_TRUE((*set)->StartSampling().ok());
    return *std::move(set);
  }
  // The reader looks; the times of what it reads.
  std::vector<uint64_t> Read(EventSet* set) {
    std::vector<uint64_t> times;
    RawRecord record;
    while (*set->Next(&record) == ReadResult::kRecord) times.push_back(record.who.time);
    return times;
  }
  std::vector<uint64_t> ReadAt(EventSet* set, uint64_t now) {
    kernel_.now = now;
    return Read(set);
  }
  // The CPUs of the sampling events open now, and that both of each CPU are enabled.
  std::set<int32_t> Sampled() const {
    std::map<int32_t, int> enabled;
    for (const auto& [fd, event] : kernel_.events()) enabled[event.cpu] += event.enabled ? 1 : 10;
    std::set<int32_t> cpus;
    for (const auto& [cpu, sum] : enabled) {
      EXPECT_EQ(sum, 2) << "CPU " << cpu;
      cpus.insert(cpu);
    }
    return cpus;
  }

  FakeKernel kernel_;
  std::map<int32_t, int> errors_;
  std::map<int32_t, uint64_t> died_;
};

using Cpus = std::set<int32_t>;

TEST_F(CpuTargetTest, RetiresACpuThatWentAndHandsOutTheRestOfItsRing) {
  const auto set = Start();
  ASSERT_TRUE(kernel_.Write(1, Wire({.time = kSecond + 5, .cpu = 1})));
  Read(set.get());
  kernel_.files[kOnline] = "0,2";
  died_[1] = 2 * kSecond;
  ReadAt(set.get(), 3 * kSecond);
  EXPECT_EQ(Sampled(), (Cpus{0, 2}));
  EXPECT_EQ(kernel_.mapped_rings(), 3u);
  // What it held is handed out, and then the ring is given back.
  EXPECT_EQ(ReadAt(set.get(), 4 * kSecond), std::vector<uint64_t>{kSecond + 5});
  EXPECT_EQ(set->stats().samples, 1u);
  EXPECT_EQ(kernel_.mapped_rings(), 2u);
  const SourceStats stats = set->stats();
  ASSERT_EQ(stats.gap_count, 1u);
  EXPECT_EQ(stats.gaps[0].cpu, 1);
  EXPECT_EQ(stats.gaps[0].from_ns, 2 * kSecond);  // when it stopped, not when that was seen
  EXPECT_EQ(stats.gaps[0].to_ns, 0u);
  // Its counts are kept.
  set->Finish();
  EXPECT_EQ(set->stats().kernel_count, 21u);
  EXPECT_EQ(set->stats().lost_samples, 9u);
}

TEST_F(CpuTargetTest, GivesACpuThatCameBackANewEvent) {
  const auto set = Start();
  kernel_.files[kOnline] = "0-1";
  died_[2] = 2 * kSecond;
  ReadAt(set.get(), 2 * kSecond);
  EXPECT_EQ(Sampled(), (Cpus{0, 1}));
  kernel_.files[kOnline] = "0-2";
  died_.clear();
  ReadAt(set.get(), 5 * kSecond);
  EXPECT_EQ(Sampled(), (Cpus{0, 1, 2}));
  ASSERT_EQ(set->stats().gaps.size(), 1u);
  EXPECT_EQ(set->stats().gaps[0].to_ns, 5 * kSecond);
  // In order with the others.
  ASSERT_TRUE(kernel_.Write(2, Wire({.time = 5 * kSecond + 1, .cpu = 2})));
  ASSERT_TRUE(kernel_.Write(0, Wire({.time = 5 * kSecond + 2, .cpu = 0})));
  ReadAt(set.get(), 6 * kSecond);
  EXPECT_EQ(ReadAt(set.get(), 7 * kSecond),
            (std::vector<uint64_t>{5 * kSecond + 1, 5 * kSecond + 2}));
}

// What was born on the CPU while nobody looked is known from /proc, asked once a second at most.
TEST_F(CpuTargetTest, AsksProcOfProcessesWhenACpuCameBack) {
  kernel_.folders["/proc"] = {70};
  kernel_.folders["/proc/70/task"] = {70};
  kernel_.files["/proc/70/task/70/comm"] = "born\n";
  kernel_.files["/proc/70/maps"] = "1000-2000 r-xp 00000000 08:01 9 /bin/born\n";
  const auto set = Start();
  // The CPU goes at the first time and is back at the second: the types of the records made then.
  const auto made = [&](uint64_t gone, uint64_t back) {
    kernel_.files[kOnline] = "0-1";
    ReadAt(set.get(), gone);
    kernel_.files[kOnline] = "0-2";
    kernel_.now = back;
    std::vector<uint32_t> types;
    RawRecord record;
    while (*set->Next(&record) == ReadResult::kRecord) {
      EXPECT_EQ(record.event, kMadeRecord);
      EXPECT_EQ(record.who.pid, 70);
      types.push_back(record.header->type);
    }
    return types;
  };
  const std::vector<uint32_t> told = {PERF_RECORD_COMM, PERF_RECORD_MMAP2};
  EXPECT_EQ(made(2 * kSecond, 3 * kSecond), told);
  EXPECT_TRUE(made(3 * kSecond + kSecond / 4, 3 * kSecond + kSecond / 2).empty());
  // What was put off is not forgotten.
  kernel_.now = 4 * kSecond;
  RawRecord record;
  ASSERT_EQ(*set->Next(&record), ReadResult::kRecord);
  EXPECT_EQ(record.header->type, PERF_RECORD_COMM);
  Read(set.get());
  EXPECT_TRUE(ReadAt(set.get(), 9 * kSecond).empty());
}

// Nobody told what a process executed on the CPU while that was not sampled.
TEST_F(CpuTargetTest, ForgetsWhoseProcessesAreWhenACpuCameBack) {
  Ownership ownership = Ownership::kOwn;
  EventTarget target{.uid = 1000};
  target.ownership_of = [&ownership](int32_t) { return ownership; };
  const auto set = Start(target);
  // A sample of that process, taken 1 ms from now, is handed out.
  const auto wanted = [&](uint64_t now) {
    ReadAt(set.get(), now);
    EXPECT_TRUE(kernel_.Write(0, Wire({.pid = 70, .tid = 70, .time = now + 1'000'000})));
    std::vector<uint64_t> times = ReadAt(set.get(), now + 2'000'000);
    if (times.empty()) times = ReadAt(set.get(), now + 3'000'000);
    return times.size() == 1;
  };
  const uint64_t start = 5 * kSecond;
  EXPECT_FALSE(wanted(start)) << "it was looked at after that";
  EXPECT_TRUE(wanted(start + kSecond / 10));
  kernel_.files[kOnline] = "0-1";
  ReadAt(set.get(), start + kSecond / 4);
  ownership = Ownership::kOther;
  EXPECT_TRUE(wanted(start + kSecond / 3)) << "it is known, and no CPU came back";
  kernel_.files[kOnline] = "0-2";
  ReadAt(set.get(), start + kSecond / 2 + kSecond / 8);
  EXPECT_FALSE(wanted(start + kSecond / 2 + kSecond / 6));
  EXPECT_FALSE(wanted(start + kSecond / 2 + kSecond / 5));
}

TEST_F(CpuTargetTest, LooksAtMostFiveTimesASecond) {
  const auto set = Start();
  ReadAt(set.get(), 2 * kSecond);
  kernel_.files[kOnline] = "0";
  ReadAt(set.get(), 2 * kSecond + CpuWatch::kIntervalNs - 1);
  EXPECT_EQ(Sampled(), (Cpus{0, 1, 2}));
  ReadAt(set.get(), 2 * kSecond + CpuWatch::kIntervalNs);
  EXPECT_EQ(Sampled(), Cpus{0});
}

TEST_F(CpuTargetTest, LooksAtOnceWhenARingHangsUp) {
  const auto set = Start();
  ReadAt(set.get(), 2 * kSecond);
  kernel_.files[kOnline] = "0";
  for (const auto& [fd, event] : kernel_.events()) {
    if (event.cpu == 1) kernel_.hung_up.insert(fd);
  }
  set->Wait(absl::ZeroDuration());
  Read(set.get());
  EXPECT_EQ(Sampled(), Cpus{0});
}

TEST_F(CpuTargetTest, FindsACpuThatWentAndCameBackBetweenTwoLooks) {
  const auto set = Start();
  ReadAt(set.get(), 2 * kSecond);
  ReadAt(set.get(), 3 * kSecond);
  EXPECT_EQ(set->stats().gap_count, 0u);
  died_[1] = 3 * kSecond + 5;  // taken off its CPU, which is online at every look
  ReadAt(set.get(), 4 * kSecond);
  EXPECT_EQ(set->stats().gap_count, 0u);  // it had gone on since the last look
  kernel_.attempts.clear();
  ReadAt(set.get(), 5 * kSecond);
  ASSERT_EQ(set->stats().gap_count, 1u);
  EXPECT_EQ(set->stats().gaps[0].from_ns, 3 * kSecond + 5);
  EXPECT_EQ(set->stats().gaps[0].to_ns, 5 * kSecond);
  EXPECT_EQ(kernel_.attempts.size(), 2u);
  EXPECT_EQ(Sampled(), (Cpus{0, 1, 2}));
}

TEST_F(CpuTargetTest, LooksOnceMoreWhenTheSessionEnds) {
  const auto set = Start();
  ReadAt(set.get(), 2 * kSecond);
  died_[0] = 2 * kSecond + 5;  // is back
  died_[1] = 2 * kSecond + 7;  // stays away
  kernel_.files[kOnline] = "0,2";
  kernel_.now = 2 * kSecond + 1000;
  const auto counts = kernel_.counts;
  kernel_.counts = [this, counts](const FakeKernel::Event& event) {
    ++kernel_.now;  // a call takes time
    return counts(event);
  };
  set->Finish();
  Read(set.get());
  const SourceStats stats = set->stats();
  ASSERT_EQ(stats.gap_count, 2u);
  EXPECT_EQ(stats.gaps[0].cpu, 0);
  EXPECT_EQ(stats.gaps[0].from_ns, 2 * kSecond + 5);
  EXPECT_EQ(stats.gaps[0].to_ns, 0u);
  EXPECT_EQ(stats.gaps[1].cpu, 1);
  EXPECT_EQ(stats.gaps[1].from_ns, 2 * kSecond + 7);
  EXPECT_GE(stats.gap_ns, 995u + 993u);
  EXPECT_LE(stats.gap_ns, 995u + 993u + 2 * 20u);
}

TEST_F(CpuTargetTest, GapsBeginRightThoughTheClocksDriftApart) {
  // Events' time goes on a thousandth faster than the records' clock.
  kernel_.counts = [this](const FakeKernel::Event& event) {
    const auto died = died_.find(event.cpu);
    const uint64_t until = died == died_.end() ? kernel_.now : died->second;
    const uint64_t enabled = (until - kSecond) + (until - kSecond) / 1000;
    return std::vector<uint64_t>{0, enabled, enabled, 0, 0};
  };
  const auto set = Start();
  for (uint64_t now = 2; now <= 3000; ++now) ReadAt(set.get(), now * kSecond);
  died_[1] = 3000 * kSecond + kSecond / 2;
  kernel_.files[kOnline] = "0,2";
  ReadAt(set.get(), 3001 * kSecond);
  ASSERT_EQ(set->stats().gap_count, 1u);
  EXPECT_NEAR(static_cast<double>(set->stats().gaps[0].from_ns), 3000.5e9, 5e6);
}

TEST_F(CpuTargetTest, SumsTheGapsThatItDoesNotTellOneByOne) {
  const auto set = Start();
  for (uint64_t i = 0; i < 2 * kMaxGaps; ++i) {
    const uint64_t now = (2 + 4 * i) * kSecond;
    kernel_.files[kOnline] = "0-1";
    died_[2] = now - kSecond / 2;
    ReadAt(set.get(), now);
    kernel_.files[kOnline] = "0-2";
    died_.clear();
    // A new event has counted from here on.
    const uint64_t back = now + kSecond;
    kernel_.counts = [this, back](const FakeKernel::Event& event) {
      const auto died = died_.find(event.cpu);
      const uint64_t until = died == died_.end() ? kernel_.now : died->second;
      const uint64_t enabled = until - (event.cpu == 2 ? back : kSecond);
      return std::vector<uint64_t>{0, enabled, enabled, 0, 0};
    };
    ReadAt(set.get(), back);
  }
  const SourceStats stats = set->stats();
  EXPECT_EQ(stats.gap_count, 2 * kMaxGaps);
  EXPECT_EQ(stats.gaps.size(), kMaxGaps);
  EXPECT_EQ(stats.gap_ns, 2 * kMaxGaps * (kSecond + kSecond / 2));
}

TEST_F(CpuTargetTest, KeepsTheIntentWhileItDoesNotOpen) {
  const auto set = Start();
  kernel_.files[kOnline] = "0-1";
  ReadAt(set.get(), 2 * kSecond);
  kernel_.files[kOnline] = "0-2";
  errors_[2] = ENODEV;  // gone again already
  ReadAt(set.get(), 3 * kSecond);
  EXPECT_TRUE(set->notes().empty());
  errors_[2] = EMFILE;
  ReadAt(set.get(), 4 * kSecond);
  ReadAt(set.get(), 5 * kSecond);
  ASSERT_EQ(set->notes().size(), 1u);
  EXPECT_THAT(set->notes()[0], HasSubstr("CPU 2"));
  EXPECT_THAT(set->notes()[0], HasSubstr("descriptors"));
  errors_.clear();
  ReadAt(set.get(), 6 * kSecond);
  EXPECT_EQ(Sampled(), (Cpus{0, 1, 2}));
  EXPECT_EQ(set->stats().gap_count, 1u);  // one gap, however often it was tried
  EXPECT_EQ(set->stats().gaps[0].to_ns, 6 * kSecond);
}

TEST_F(CpuTargetTest, TakesCpusThatComeLater) {
  const auto set = Start();
  EXPECT_EQ(set->stats().gap_count, 0u);  // an idle sibling is no gap
  ReadAt(set.get(), 2 * kSecond);
  kernel_.files[kOnline] = "0-3";
  ReadAt(set.get(), 3 * kSecond);
  EXPECT_EQ(Sampled(), (Cpus{0, 1, 2, 3}));
  ASSERT_EQ(set->stats().gap_count, 1u);
  EXPECT_EQ(set->stats().gaps[0].from_ns, 2 * kSecond);
}

TEST_F(CpuTargetTest, KeepsToAListOfCpus) {
  const auto set = Start({.cpus = {1, 3}});
  EXPECT_EQ(Sampled(), Cpus{1});
  EXPECT_EQ(set->cpus(), 1u);
  EXPECT_EQ(set->stats().gap_count, 1u);  // 3 was asked for and is offline
  kernel_.files[kOnline] = "0-3";
  ReadAt(set.get(), 3 * kSecond);
  EXPECT_EQ(Sampled(), (Cpus{1, 3}));
  EXPECT_EQ(set->stats().gaps[0].to_ns, 3 * kSecond);
  const absl::Status none =
      EventSet::Open(kernel_, Chosen(PERF_TYPE_SOFTWARE, 0), {.cpus = {9}}, kRing).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(none.message()), HasSubstr("no CPU 9"));
}

TEST_F(CpuTargetTest, ToldGapsAreBounded) {
  const auto set = Start();
  uint64_t now = kSecond;
  for (int i = 0; i < 100; ++i) {
    kernel_.files[kOnline] = "0-1";
    ReadAt(set.get(), now += kSecond);
    kernel_.files[kOnline] = "0-2";
    ReadAt(set.get(), now += kSecond);
  }
  EXPECT_EQ(set->stats().gap_count, 100u);
  EXPECT_EQ(set->stats().gaps.size(), kMaxGaps);
  EXPECT_EQ(Sampled(), (Cpus{0, 1, 2}));
  EXPECT_EQ(kernel_.mapped_rings(), 3u);
}

TEST_F(CpuTargetTest, CountsInACgroupByItsFolder) {
  kernel_.folder_errors["/sys/fs/cgroup/web/front"] = 0;
  {
    const auto set = Start({.cgroup = "web/front"});
    for (const FakeKernel::Attempt& attempt : kernel_.attempts) {
      if (attempt.cpu < 0) continue;  // a probe
      EXPECT_EQ(attempt.flags, SideBand(attempt.attr) ? 0u : PERF_FLAG_PID_CGROUP);
      EXPECT_EQ(attempt.pid < 0, SideBand(attempt.attr));
    }
  }
  kernel_.folder_errors = {{"/sys/fs/cgroup/perf_event/old", 0}};
  Start({.cgroup = "/old"});
  const absl::Status none =
      EventSet::Open(kernel_, Chosen(PERF_TYPE_SOFTWARE, 0), {.cgroup = "no"}, kRing).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(none.message()), HasSubstr("/sys/fs/cgroup/no"));
  errors_[0] = EBADF;
  const absl::Status no_cgroup =
      EventSet::Open(kernel_, Chosen(PERF_TYPE_SOFTWARE, 0), {.cgroup = "old"}, kRing).status();
  EXPECT_EQ(no_cgroup.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(no_cgroup.message()), HasSubstr("cgroup"));
}

class HybridTest : public CpuTargetTest {
 protected:
  HybridTest() {
    kernel_.files["/sys/devices/cpu_core/type"] = "4\n";
    kernel_.files["/sys/devices/cpu_core/cpus"] = "0\n";
    kernel_.files["/sys/devices/cpu_atom/type"] = "10\n";
    kernel_.files["/sys/devices/cpu_atom/cpus"] = "1-2\n";
  }
  std::map<int32_t, uint64_t> Configs() const {
    std::map<int32_t, uint64_t> configs;
    for (const auto& [fd, event] : kernel_.events()) {
      if (!SideBand(event.attr)) configs[event.cpu] = event.attr.config;
    }
    return configs;
  }
};

TEST_F(HybridTest, AsksEachCoreTypesPmuForAGenericEvent) {
  const auto set =
      EventSet::Open(kernel_, Chosen(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES), {}, kRing);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(Configs(),
            (std::map<int32_t, uint64_t>{
                {0, uint64_t{4} << 32}, {1, uint64_t{10} << 32}, {2, uint64_t{10} << 32}}));
  EXPECT_EQ((*set)->events().size(), 2u);  // one event, to whoever reads
}

TEST_F(HybridTest, OpensOneEventPerCoreTypeForAThread) {
  kernel_.folders["/proc/50/task"] = {50};
  const auto set = EventSet::Open(kernel_, Chosen(PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS),
                                  {.tid = 50}, kRing);
  ASSERT_TRUE(set.ok()) << set.status();
  std::set<uint64_t> configs;
  for (const auto& [fd, event] : kernel_.events()) {
    EXPECT_EQ(event.cpu, -1);
    if (!SideBand(event.attr)) configs.insert(event.attr.config);
  }
  EXPECT_EQ(configs, (std::set<uint64_t>{uint64_t{4} << 32 | 1, uint64_t{10} << 32 | 1}));
  EXPECT_EQ(kernel_.mapped_rings(), 1u);
}

TEST_F(HybridTest, LeavesOutCoresThatDoNotCountTheEventAndSaysSo) {
  {
    const auto set = EventSet::Open(kernel_, Chosen(10, 0x1c0), {}, kRing);
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_EQ(Configs(), (std::map<int32_t, uint64_t>{{1, 0x1c0}, {2, 0x1c0}}));
    ASSERT_EQ((*set)->notes().size(), 1u);
    EXPECT_THAT((*set)->notes()[0], HasSubstr("CPUs 0"));
  }
  const absl::Status none =
      EventSet::Open(kernel_, Chosen(10, 0x1c0), {.cpus = {0}}, kRing).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kUnimplemented);
}

TEST_F(HybridTest, LeavesSoftwareEventsAlone) {
  const auto set = Start();
  for (const auto& [cpu, config] : Configs()) EXPECT_EQ(config, 0u) << cpu;
}

}  // namespace
}  // namespace lbrd::pmu
