// Threads followed one by one, through EventSet as the daemon reads it.
#include "pmu/thread_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "fake_kernel.h"
#include "pmu/event_set.h"
#include "wire_records.h"

namespace lbrd::pmu {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRing = uint64_t{1} << 20;

bool SideBand(const perf_event_attr& attr) { return attr.config == PERF_COUNT_SW_DUMMY; }

class ThreadTargetTest : public ::testing::Test {
 protected:
  ThreadTargetTest() {
    kernel_.files["/sys/devices/system/cpu/online"] = "0-255\n";  // too many for a pair on each
    kernel_.folders["/proc/50/task"] = {50, 51};
  }
  ~ThreadTargetTest() override {
    EXPECT_EQ(kernel_.open_descriptors(), 0u);
    EXPECT_EQ(kernel_.mapped_rings(), 0u);
    EXPECT_EQ(kernel_.bad_closes, 0);
  }

  absl::StatusOr<std::unique_ptr<EventSet>> OpenSet(const EventTarget& target) {
    ChosenEvent event;
    event.code = {.name = "task-clock", .type = PERF_TYPE_SOFTWARE, .config = 1, .unit = "ns"};
    event.source = StackSource::kFramePointer;
    event.attr = BuildSamplingAttr(event.code, {}, {.source = event.source});
    return EventSet::Open(kernel_, event, target, kRing);
  }
  std::unique_ptr<EventSet> Start(const EventTarget& target) {
    auto set = OpenSet(target);
    EXPECT_TRUE(set.ok()) << set.status();
    EXPECT_TRUE((*set)->StartSideBand().ok());
    EXPECT_TRUE((*set)->StartSampling().ok());
    return *std::move(set);
  }
  // Reads until there is nothing more; the times of what came, 0 for records made here.
  std::vector<uint64_t> Read(EventSet* set) {
    std::vector<uint64_t> times;
    for (int round = 0; round < 4; ++round) {
      kernel_.now += 1000;
      RawRecord record;
      while (*set->Next(&record) == ReadResult::kRecord) {
        times.push_back(record.event == kMadeRecord ? 0 : record.who.time);
      }
    }
    return times;
  }
  // Threads with an enabled pair of events on any CPU.
  std::set<int32_t> Followed() const {
    std::map<int32_t, int> enabled;
    for (const auto& [fd, event] : kernel_.events()) {
      EXPECT_EQ(event.cpu, -1);
      EXPECT_EQ(event.attr.inherit, 0u);
      enabled[event.pid] += event.enabled ? 1 : 10;
    }
    std::set<int32_t> tids;
    for (const auto& [tid, sum] : enabled) {
      EXPECT_EQ(sum, 2) << "thread " << tid;
      tids.insert(tid);
    }
    return tids;
  }
  void Fork(int32_t pid, int32_t tid, int32_t parent_pid, int32_t parent_tid) {
    ASSERT_TRUE(
        kernel_.WriteToThread(parent_tid, WireFork(pid, tid, parent_pid, parent_tid, kernel_.now)));
  }
  void Exit(int32_t pid, int32_t tid) {
    ASSERT_TRUE(
        kernel_.WriteToThread(tid, WireOther(PERF_RECORD_EXIT, 0,
                                             {Pair(static_cast<uint32_t>(pid), 0),
                                              Pair(static_cast<uint32_t>(tid), 0), kernel_.now},
                                             pid, tid, kernel_.now)));
  }

  FakeKernel kernel_;
};

using Tids = std::set<int32_t>;

TEST_F(ThreadTargetTest, FollowsThreadByThreadWhereDescriptorsWouldNotDo) {
  const auto set = Start({.pid = 50});
  EXPECT_EQ(Followed(), (Tids{50, 51}));
  EXPECT_EQ(kernel_.mapped_rings(), 2u);
  ASSERT_FALSE(set->notes().empty());
  EXPECT_THAT(set->notes()[0], HasSubstr("2 threads on 256 CPUs would need 1024 descriptors"));
  EXPECT_THAT(set->notes()[0], HasSubstr("ring of 128 KiB"));
  EXPECT_THAT(set->notes()[0], HasSubstr("up to 256 threads"));
}

TEST_F(ThreadTargetTest, DoesSoTooWhenTheyRunOutWhileOpening) {
  kernel_.descriptor_limit = 1 << 20;
  kernel_.refuse = [this](const perf_event_attr&, int32_t, int32_t) {
    return kernel_.open_descriptors() > 100 ? EMFILE : 0;
  };
  const auto set = Start({.pid = 50});
  EXPECT_EQ(Followed(), (Tids{50, 51}));
}

TEST_F(ThreadTargetTest, TakesUpWhatIsBornAndLetsGoWhatEnds) {
  const auto set = Start({.pid = 50});
  kernel_.folders["/proc/50/task"] = {50, 51, 52};
  Fork(50, 52, 50, 51);
  Read(set.get());
  EXPECT_EQ(Followed(), (Tids{50, 51, 52}));
  kernel_.counts = [](const FakeKernel::Event& event) {
    return std::vector<uint64_t>{SideBand(event.attr) ? 0u : 100u, 1, 1, 0, 0};
  };
  kernel_.folders["/proc/50/task"] = {50, 51};
  Exit(50, 52);
  EXPECT_EQ(Read(set.get()).size(), 1u);
  EXPECT_EQ(Followed(), (Tids{50, 51}));
  EXPECT_EQ(kernel_.mapped_rings(), 2u);
  set->Finish();
  EXPECT_EQ(set->stats().kernel_count, 300u);  // of those alive, and folded
}

TEST_F(ThreadTargetTest, LetsGoOfWhatHangsUpAndReadsItsRing) {
  const auto set = Start({.pid = 50});
  ASSERT_TRUE(kernel_.WriteToThread(51, Wire({.pid = 50, .tid = 51, .time = kernel_.now})));
  kernel_.hung_up.insert(kernel_.RingDescriptor(51));
  set->Wait(absl::ZeroDuration());
  EXPECT_EQ(Read(set.get()).size(), 1u);
  EXPECT_EQ(Followed(), Tids{50});
  EXPECT_EQ(kernel_.mapped_rings(), 1u);
}

TEST_F(ThreadTargetTest, ListsAgainUntilThereIsNoStranger) {
  const auto set = Start({.pid = 50});
  int lists = 0;
  kernel_.on_list = [&](const std::string& folder) {
    // 53 is born of 52 before that is followed: nobody tells of it.
    if (folder == "/proc/50/task") {
      ++lists;
      kernel_.folders[folder] =
          lists == 1 ? std::vector<int32_t>{50, 51, 52} : std::vector<int32_t>{50, 51, 52, 53};
    }
  };
  Fork(50, 52, 50, 50);
  Read(set.get());
  EXPECT_EQ(Followed(), (Tids{50, 51, 52, 53}));
  EXPECT_EQ(lists, 3);
}

TEST_F(ThreadTargetTest, FollowsProcessesAndTellsWhatTheyHadMapped) {
  const auto set = Start({.pid = 50});
  kernel_.folders["/proc/60/task"] = {60};
  kernel_.files["/proc/60/task/60/comm"] = "child\n";
  kernel_.files["/proc/60/maps"] = "1000-2000 r-xp 00000000 08:01 42 /bin/child\n";
  // 61 was forked by 60 before that had events.
  kernel_.files["/proc/60/task/60/children"] = "61 ";
  kernel_.folders["/proc/61/task"] = {61};
  kernel_.files["/proc/61/maps"] = "";
  Fork(60, 60, 50, 50);
  const std::vector<uint64_t> times = Read(set.get());
  EXPECT_EQ(Followed(), (Tids{50, 51, 60, 61}));
  EXPECT_EQ(std::count(times.begin(), times.end(), 0), 2);  // a name and a mapping
}

TEST_F(ThreadTargetTest, CountsWhatEndedBeforeItCouldBeFollowed) {
  const auto set = Start({.pid = 50});
  Fork(50, 52, 50, 50);
  Fork(70, 70, 50, 50);
  Read(set.get());
  EXPECT_EQ(Followed(), (Tids{50, 51}));
  ASSERT_EQ(set->notes().size(), 2u);
  EXPECT_THAT(set->notes()[1], HasSubstr("2 threads ended before"));
}

TEST_F(ThreadTargetTest, TellsOfThreadsForWhichThereIsNoRoom) {
  kernel_.descriptor_limit = 12;  // three threads
  const auto set = Start({.pid = 50});
  kernel_.folders["/proc/50/task"] = {50, 51, 52, 53};
  Fork(50, 52, 50, 50);
  Fork(50, 53, 50, 50);
  Read(set.get());
  EXPECT_EQ(Followed().size(), 3u);
  ASSERT_EQ(set->notes().size(), 2u);
  EXPECT_THAT(set->notes()[1], HasSubstr("1 threads were not followed"));
}

TEST_F(ThreadTargetTest, EnablesWhatIsBornAfterTheExec) {
  const auto set = Start({.pid = 50, .enable_on_exec = true});
  for (const auto& [fd, event] : kernel_.events()) {
    EXPECT_EQ(event.enabled, SideBand(event.attr));
  }
  ASSERT_TRUE(kernel_.WriteToThread(50, WireComm(50, 50, "program", kernel_.now, /*exec=*/true)));
  kernel_.folders["/proc/50/task"] = {50, 51, 52};
  Fork(50, 52, 50, 50);
  Read(set.get());
  EXPECT_EQ(Followed(), (Tids{50, 51, 52}));
}

TEST_F(ThreadTargetTest, KeepsToASingleThread) {
  const auto set = Start({.tid = 51});
  EXPECT_EQ(Followed(), Tids{51});
  EXPECT_TRUE(set->notes().empty());
  EXPECT_EQ(set->events()[0].attr.wakeup_watermark, kRing / 4);
  Fork(50, 52, 50, 51);
  kernel_.folders["/proc/50/task"] = {50, 51, 52};
  Read(set.get());
  EXPECT_EQ(Followed(), Tids{51});
  EXPECT_FALSE(set->target_gone());
  Exit(50, 51);
  Read(set.get());
  set->Wait(absl::ZeroDuration());
  EXPECT_TRUE(set->target_gone());
  kernel_.refuse = [](const perf_event_attr&, int32_t pid, int32_t) {
    return pid == 99 ? ESRCH : 0;
  };
  EXPECT_EQ(OpenSet({.tid = 99}).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lbrd::pmu
