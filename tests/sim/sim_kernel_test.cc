// What the simulated kernel says to single calls: errors, rings, counts, slots, life and death.
#include "tests/sim/sim_kernel.h"

#include <gtest/gtest.h>
#include <linux/hw_breakpoint.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "pmu/event_request.h"
#include "pmu/ring.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

perf_event_attr Attr(uint32_t type, uint64_t config) {
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = type;
  attr.config = config;
  attr.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
                     PERF_SAMPLE_CPU;
  attr.sample_id_all = 1;
  attr.read_format =
      PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_LOST;
  return attr;
}
perf_event_attr Clock(uint64_t period = 0) {
  perf_event_attr attr = Attr(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK);
  attr.sample_period = period;
  return attr;
}
perf_event_attr Cycles(uint64_t period = 0) {
  perf_event_attr attr = Attr(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES);
  attr.sample_period = period;
  return attr;
}
perf_event_attr Lbr(uint64_t filter = PERF_SAMPLE_BRANCH_CALL_STACK) {
  perf_event_attr attr = Cycles(1'000'003);
  attr.sample_type |= PERF_SAMPLE_BRANCH_STACK;
  attr.branch_sample_type = PERF_SAMPLE_BRANCH_USER | filter;
  return attr;
}
perf_event_attr Breakpoint(uint64_t address, uint32_t type = HW_BREAKPOINT_RW) {
  perf_event_attr attr = Attr(PERF_TYPE_BREAKPOINT, 0);
  attr.bp_addr = address;
  attr.bp_type = type;
  attr.bp_len = 8;
  attr.sample_period = 1;
  return attr;
}

class SimKernelTest : public ::testing::Test {
 protected:
  void Make(const PerfOptions& perf = {}, int32_t cpus = 4) {
    SimOptions options;
    options.machine.cpus = cpus;
    options.perf = perf;
    kernel_ = std::make_unique<SimKernel>(options);
  }
  // Opens, closes; the result as of the call.
  int Try(const perf_event_attr& attr, int32_t pid = -1, int32_t cpu = 0) {
    const int fd = kernel_->OpenEvent(attr, pid, cpu);
    if (fd >= 0) kernel_->Close(fd);
    return std::min(fd, 0);
  }
  int32_t Spawn(const Behaviour& how = {}, int32_t pinned = -1) {
    int32_t pid = 0;
    kernel_->With([&](Machine& machine) {
      SpawnOptions spawn;
      spawn.behaviour = machine.AddBehaviour(how);
      spawn.pinned = pinned;
      program_ = machine.AddProgram({});
      pid = machine.Spawn(program_, spawn)->tid;
    });
    return pid;
  }
  void Order(int32_t tid, KernelWork work) {
    kernel_->With([&](Machine& machine) { ASSERT_TRUE(machine.Order(tid, work)); });
  }
  struct Counts {
    uint64_t value, enabled, running, lost;
  };
  Counts Read(int fd) {
    uint64_t values[4] = {};
    EXPECT_EQ(kernel_->ReadCounts(fd, values), 32);
    return {values[0], values[1], values[2], values[3]};
  }
  int Poll(int fd, int timeout_ms) {
    pollfd entry{fd, POLLIN, 0};
    kernel_->Poll(std::span(&entry, 1), timeout_ms);
    return entry.revents;
  }

  std::unique_ptr<SimKernel> kernel_;
  std::shared_ptr<const Program> program_;
};

TEST_F(SimKernelTest, RefusesWhatTheKernelRefuses) {
  Make();
  EXPECT_EQ(Try(Clock()), 0);
  EXPECT_EQ(Try(Clock(), -1, -1), -EINVAL);
  EXPECT_EQ(Try(Clock(), -1, 4), -EINVAL);
  EXPECT_EQ(Try(Clock(), 4000, -1), -ESRCH);
  EXPECT_EQ(Try(Clock(), 0, -1), 0);
  EXPECT_EQ(Try(Attr(77, 0)), -ENOENT);
  EXPECT_EQ(Try(Lbr()), 0);
  perf_event_attr attr = Lbr(PERF_SAMPLE_BRANCH_CALL_STACK | PERF_SAMPLE_BRANCH_ANY);
  EXPECT_EQ(Try(attr), -EINVAL);
  attr = Lbr();
  attr.type = PERF_TYPE_SOFTWARE;
  EXPECT_EQ(Try(attr), -EOPNOTSUPP);
  attr = Clock();
  attr.sample_type |= PERF_SAMPLE_CALLCHAIN;
  attr.sample_max_stack = 128;
  EXPECT_EQ(Try(attr), -EOVERFLOW);
  attr.sample_max_stack = 127;
  EXPECT_EQ(Try(attr), 0);
  attr.freq = 1;
  attr.sample_freq = 100'001;
  EXPECT_EQ(Try(attr), -EINVAL);
  attr = Clock();
  attr.sample_type |= PERF_SAMPLE_REGS_USER;
  EXPECT_EQ(Try(attr), -EINVAL);
  attr = Clock();
  attr.sample_type |= PERF_SAMPLE_STACK_USER;
  attr.sample_stack_user = 12;
  EXPECT_EQ(Try(attr), -EINVAL);
  EXPECT_EQ(Try(Breakpoint(0x1001)), -EINVAL);
  EXPECT_EQ(Try(Breakpoint(0x1000, HW_BREAKPOINT_R)), -EINVAL);
  kernel_->With([](Machine& machine) { EXPECT_TRUE(machine.TakeOffline(2)); });
  EXPECT_EQ(Try(Clock(), -1, 2), -ENODEV);
  EXPECT_EQ(kernel_->ReadFile("/sys/devices/system/cpu/online", 100).value(), "0-1,3\n");
  EXPECT_EQ(kernel_->Control(99, PERF_EVENT_IOC_ENABLE, 0), -EBADF);
  EXPECT_EQ(kernel_->OpenPid(4000), -ESRCH);
  kernel_->Close(99);
  EXPECT_EQ(kernel_->bad_closes(), 1u);
}

TEST_F(SimKernelTest, IsTheVersionAndTheMachineItIsToldToBe) {
  perf_event_attr deferred = Clock(100'000);
  const uint64_t bits = pmu::kAttrDeferCallchain | pmu::kAttrDeferOutput;
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<char*>(&deferred) + 40, sizeof(flags));
  flags |= bits;
  std::memcpy(reinterpret_cast<char*>(&deferred) + 40, &flags, sizeof(flags));
  Make({.minor = 19});
  EXPECT_EQ(Try(deferred), 0);
  Make({.minor = 18});
  EXPECT_EQ(Try(deferred), -EINVAL);
  Make({.major = 5, .minor = 19});
  EXPECT_EQ(Try(Clock()), -EINVAL);  // LOST
  Make({.has_pmu = false});
  EXPECT_EQ(Try(Cycles()), -ENOENT);
  EXPECT_FALSE(kernel_->ReadFile("/sys/bus/event_source/devices/cpu/caps/branches", 100).ok());
  Make({.lbr = LbrKind::kNone});
  EXPECT_EQ(Try(Lbr()), -EOPNOTSUPP);
  Make({.lbr_taken = true});
  EXPECT_EQ(Try(Lbr()), -EBUSY);
  Make({.privileged = false});
  EXPECT_EQ(Try(Clock()), -EACCES);
  perf_event_attr user = Clock();
  user.exclude_kernel = 1;
  EXPECT_EQ(Try(user), -EACCES);
  EXPECT_EQ(Try(user, 0, -1), 0);
  EXPECT_EQ(Try(user, 1, -1), -EACCES);
  Make({.max_descriptors = 1});
  EXPECT_GE(kernel_->OpenEvent(Clock(), -1, 0), 0);
  EXPECT_EQ(kernel_->OpenEvent(Clock(), -1, 0), -EMFILE);
  EXPECT_EQ(kernel_->OpenSignal(), -EMFILE);
}

TEST_F(SimKernelTest, RingsAreSharedByTheKernelsRules) {
  Make();
  const int first = kernel_->OpenEvent(Clock(), -1, 0);
  const int second = kernel_->OpenEvent(Clock(), -1, 0);
  const int elsewhere = kernel_->OpenEvent(Clock(), -1, 1);
  const auto share = [&](int fd, int with) {
    return kernel_->Control(fd, PERF_EVENT_IOC_SET_OUTPUT, static_cast<uint64_t>(with));
  };
  EXPECT_EQ(share(second, first), -EINVAL);  // no ring yet
  EXPECT_EQ(Poll(second, 0), POLLHUP);
  int error = 0;
  EXPECT_EQ(kernel_->MapRing(first, 12288, &error), nullptr);
  EXPECT_EQ(error, EINVAL);
  void* ring = kernel_->MapRing(first, 8192, &error);
  ASSERT_NE(ring, nullptr);
  EXPECT_EQ(share(second, first), 0);
  EXPECT_EQ(share(first, first), -EINVAL);
  EXPECT_EQ(share(first, second), -EINVAL);  // it is mapped
  EXPECT_EQ(share(elsewhere, first), -EINVAL);
  EXPECT_EQ(share(second, 99), -EBADF);
  // A mapping keeps its event after the descriptor; without it the other one has no ring either.
  kernel_->Close(first);
  EXPECT_EQ(kernel_->open_events(), 3u);
  EXPECT_EQ(Poll(second, 0), 0);
  kernel_->UnmapRing(ring, 8192);
  EXPECT_EQ(kernel_->open_events(), 2u);
  EXPECT_EQ(Poll(second, 0), POLLHUP);
  perf_event_attr inherited = Clock();
  inherited.inherit = 1;
  const int everywhere = kernel_->OpenEvent(inherited, 0, -1);
  EXPECT_EQ(kernel_->MapRing(everywhere, 8192, &error), nullptr);
  EXPECT_EQ(error, EINVAL);
}

TEST_F(SimKernelTest, AFullRingCountsWhatItLosesAndSaysSoWhenThereIsRoom) {
  Make();
  Spawn({}, 0);
  perf_event_attr attr = Clock(100'000);
  attr.watermark = 1;
  attr.wakeup_watermark = 1024;
  const int fd = kernel_->OpenEvent(attr, -1, 0);
  int error = 0;
  void* memory = kernel_->MapRing(fd, 4096, &error);
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(Poll(fd, 1000), POLLIN);
  EXPECT_LT(kernel_->Now(), 2'000'000'000u);  // woken long before the time-out
  kernel_->Run(100'000'000);
  pmu::Ring ring(memory, kSimPageBytes, 4096);
  ring.Refresh();
  uint64_t samples = 0;
  uint64_t lost = 0;
  const auto read = [&] {
    ring.Refresh();
    while (const perf_event_header* header = ring.Peek()) {
      const auto record = pmu::DecodeRecord(header, pmu::RecordFormat::FromAttr(attr));
      ASSERT_TRUE(record.ok()) << record.status();
      if (const auto* gap = std::get_if<pmu::LostRecord>(&*record)) {
        lost += gap->count;
      } else {
        ++samples;
      }
      ring.Advance();
    }
    ring.Release();
  };
  read();
  EXPECT_EQ(samples, 4095u / 48);  // header and five words; one byte stays free
  EXPECT_EQ(lost, 0u);
  kernel_->Run(1'000'000);
  read();
  const Counts counts = Read(fd);
  EXPECT_EQ(lost, counts.lost);
  EXPECT_GT(lost, 500u);
  EXPECT_EQ(samples + lost, kernel_->perf_counts().samples_generated);
  kernel_->UnmapRing(memory, 4096);
  kernel_->Close(fd);
}

TEST_F(SimKernelTest, ChildrenAreFoldedIntoTheirParentsWhichOutliveTheirTasks) {
  Make();
  Behaviour how;
  how.sleep = 0;
  const int32_t pid = Spawn(how);
  perf_event_attr attr = Clock();
  attr.inherit = 1;
  const int fd = kernel_->OpenEvent(attr, pid, -1);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(Poll(fd, 0), POLLHUP);  // no ring; and below, no life
  for (int i = 0; i < 20; ++i) {
    Order(pid, i % 2 == 0 ? KernelWork::kThread : KernelWork::kFork);
    kernel_->Run(40'000'000);
  }
  EXPECT_GT(kernel_->machine_counts().forks, 15u);
  const Counts running = Read(fd);
  EXPECT_EQ(running.value, running.running);  // a clock counts what it runs
  EXPECT_EQ(running.enabled, running.running);
  EXPECT_GT(running.value, 2u * 20 * 40'000'000);  // more than one CPU's worth
  for (int32_t tid = pid; tid < pid + 30; ++tid) {
    kernel_->With([&](Machine& machine) { machine.Order(tid, KernelWork::kExit); });
  }
  kernel_->Run(500'000'000);
  const Counts dead = Read(fd);
  EXPECT_GE(dead.value, running.value);
  kernel_->Run(50'000'000);
  EXPECT_EQ(Read(fd).value, dead.value);
  EXPECT_EQ(kernel_->Control(fd, PERF_EVENT_IOC_ENABLE, 0), 0);
  kernel_->Run(50'000'000);
  EXPECT_EQ(Read(fd).value, dead.value);  // dead is dead
  kernel_->Close(fd);
  EXPECT_EQ(kernel_->open_events(), 0u);
}

TEST_F(SimKernelTest, EventsOfATakenDownCpuAreOffForGood) {
  Make();
  const int fd = kernel_->OpenEvent(Clock(), -1, 1);
  kernel_->Run(10'000'000);
  kernel_->With([](Machine& machine) { EXPECT_TRUE(machine.TakeOffline(1)); });
  const Counts off = Read(fd);
  EXPECT_GE(off.value, 10'000'000u);
  kernel_->With([](Machine& machine) { EXPECT_TRUE(machine.BringOnline(1)); });
  EXPECT_EQ(kernel_->Control(fd, PERF_EVENT_IOC_ENABLE, 0), 0);
  kernel_->Run(10'000'000);
  EXPECT_EQ(Read(fd).value, off.value);
  EXPECT_EQ(Try(Clock(), -1, 1), 0);
}

TEST_F(SimKernelTest, TwoLbrFiltersOfOneCpuTakeTurns) {
  Make();
  Spawn({}, 0);
  const int first = kernel_->OpenEvent(Lbr(), -1, 0);
  const int second = kernel_->OpenEvent(Lbr(PERF_SAMPLE_BRANCH_ANY), -1, 0);
  const int third = kernel_->OpenEvent(Lbr(), -1, 1);
  kernel_->Run(400'000'000);
  const Counts a = Read(first);
  const Counts b = Read(second);
  EXPECT_NEAR(static_cast<double>(a.running), static_cast<double>(a.enabled) / 2, 10e6);
  EXPECT_NEAR(static_cast<double>(b.running), static_cast<double>(b.enabled) / 2, 10e6);
  const Counts c = Read(third);
  EXPECT_EQ(c.running, c.enabled);
  // A pinned one that does not fit is in error, and reads as end of file.
  perf_event_attr pinned = Lbr(PERF_SAMPLE_BRANCH_ANY_CALL);
  pinned.pinned = 1;
  const int fourth = kernel_->OpenEvent(pinned, -1, 0);
  const int fifth = kernel_->OpenEvent(
      [&] {
        perf_event_attr other = Lbr(PERF_SAMPLE_BRANCH_ANY);
        other.pinned = 1;
        return other;
      }(),
      -1, 0);
  uint64_t values[4];
  EXPECT_EQ(kernel_->ReadCounts(fourth, values), 32);
  EXPECT_EQ(kernel_->ReadCounts(fifth, values), 0);
}

TEST_F(SimKernelTest, CountersRunOut) {
  Make({.counters = 2});
  Spawn({}, 0);
  std::vector<int> fds;
  for (int i = 0; i < 4; ++i) fds.push_back(kernel_->OpenEvent(Cycles(), -1, 0));
  kernel_->Run(400'000'000);
  for (const int fd : fds) {
    const Counts counts = Read(fd);
    EXPECT_NEAR(static_cast<double>(counts.running), static_cast<double>(counts.enabled) / 2, 20e6);
  }
}

TEST_F(SimKernelTest, TooManySamplesAreThrottled) {
  Make();
  Behaviour busy;
  busy.sleep = 0;
  Spawn(busy, 0);
  const int fd = kernel_->OpenEvent(Cycles(100), -1, 0);
  int error = 0;
  void* memory = kernel_->MapRing(fd, 1 << 20, &error);
  ASSERT_NE(memory, nullptr);
  kernel_->Run(100'000'000);
  EXPECT_GT(kernel_->perf_counts().throttled, 20u);
  // 400 in each tick of 4 ms.
  EXPECT_LT(kernel_->perf_counts().samples_generated, 26u * 400);
}

// As perf_swevent_init_hrtimer() does: PERF_EVENT_IOC_PERIOD gives it nanoseconds from then on.
TEST_F(SimKernelTest, AClocksFrequencyIsAPeriodOnceItIsOpen) {
  Make();
  Spawn({}, 0);
  perf_event_attr attr = Clock();
  attr.freq = 1;
  attr.sample_freq = 100;
  const int fd = kernel_->OpenEvent(attr, -1, 0);
  ASSERT_GE(fd, 0);
  int error = 0;
  void* const ring = kernel_->MapRing(fd, 65536, &error);
  ASSERT_NE(ring, nullptr);
  EXPECT_EQ(kernel_->Control(fd, PERF_EVENT_IOC_ENABLE, 0), 0);
  const auto samples_in = [&](uint64_t ns) {
    const uint64_t before = kernel_->perf_counts().samples_written;
    kernel_->Run(ns);
    return kernel_->perf_counts().samples_written - before;
  };
  EXPECT_NEAR(static_cast<double>(samples_in(500'000'000)), 50, 2);
  uint64_t nanoseconds = 50'000'000;
  EXPECT_EQ(kernel_->Control(fd, PERF_EVENT_IOC_PERIOD, reinterpret_cast<uint64_t>(&nanoseconds)),
            0);
  EXPECT_NEAR(static_cast<double>(samples_in(500'000'000)), 10, 2);
  kernel_->UnmapRing(ring, 65536);
  kernel_->Close(fd);
}

TEST_F(SimKernelTest, BreakpointSlotsFollowTheKernelsRule) {
  Make({}, 3);
  struct Open {
    int fd;
    int32_t pid, cpu;
  };
  std::vector<Open> open;
  std::vector<int32_t> pids = {-1};
  for (int i = 0; i < 3; ++i) pids.push_back(Spawn());
  // The rule, word by word.
  const auto fits = [&](int32_t pid, int32_t cpu) {
    for (int32_t c = 0; c < 3; ++c) {
      if (cpu >= 0 && c != cpu) continue;
      const auto brought = [&](int32_t who) {
        return std::count_if(open.begin(), open.end(), [&](const Open& o) {
          return o.pid == who && (o.cpu == c || o.cpu == -1);
        });
      };
      auto taken = brought(-1);
      if (pid == -1) {
        ptrdiff_t most = 0;
        for (const int32_t who : pids) {
          if (who != -1) most = std::max(most, brought(who));
        }
        taken += most;
      } else {
        taken += brought(pid);
      }
      if (taken + 1 > 4) return false;
    }
    return true;
  };
  Random random(7);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    if (!open.empty() && random.Chance(450'000)) {
      const size_t index = random.Below(open.size());
      kernel_->Close(open[index].fd);
      open.erase(open.begin() + static_cast<ptrdiff_t>(index));
      continue;
    }
    const int32_t pid = pids[random.Below(pids.size())];
    const auto cpu = static_cast<int32_t>(random.Between(0, pid == -1 ? 2 : 3)) - (pid != -1);
    const bool expected = fits(pid, cpu);
    const int fd = kernel_->OpenEvent(Breakpoint(0x1000), pid, cpu);
    ASSERT_EQ(fd, expected ? std::max(fd, 0) : -ENOSPC) << i;
    refused += !expected;
    if (fd >= 0) open.push_back({fd, pid, cpu});
  }
  EXPECT_GT(refused, 200);
  for (const Open& o : open) kernel_->Close(o.fd);
  EXPECT_TRUE(kernel_->breakpoint_slots_free());
}

TEST_F(SimKernelTest, BreakpointsHitTheVariableTheyWatch) {
  Make();
  const int32_t pid = Spawn();
  uint64_t address = 0;
  uint64_t entry = 0;
  const uint32_t function = program_->function(Program::kProcessStart).calls[0].callee;
  kernel_->With([&](Machine& machine) {
    const SimAddressSpace& space = *machine.tasks().Find(pid)->process->space;
    address = space.VariableAddress(function);
    entry = space.FunctionAddress(function);
  });
  std::vector<Truth> hits;
  kernel_->set_truth_observer([&](const Truth& truth) { hits.push_back(truth); });
  const int data = kernel_->OpenEvent(Breakpoint(address), pid, -1);
  const int code = kernel_->OpenEvent(Breakpoint(entry, HW_BREAKPOINT_X), pid, -1);
  kernel_->Run(300'000'000);
  ASSERT_GT(hits.size(), 10u);
  EXPECT_EQ(Read(data).value, Read(code).value);
  EXPECT_EQ(Read(data).value + Read(code).value, hits.size());
  uint64_t at_entry = 0;
  for (const Truth& hit : hits) {
    EXPECT_EQ(hit.functions.front(), function);
    EXPECT_EQ(hit.pid, pid);
    at_entry += hit.user_ip == entry;
  }
  EXPECT_GE(at_entry, hits.size() / 2);
}

TEST_F(SimKernelTest, FailsTheNthCallOnce) {
  Make();
  kernel_->WithFaults([](Faults& faults) {
    faults.FailNth(Call::kOpenEvent, 2, EMFILE);
    faults.FailNth(Call::kPoll, 1, EINTR);
  });
  EXPECT_EQ(Try(Clock()), 0);
  EXPECT_EQ(Try(Clock()), -EMFILE);
  EXPECT_EQ(Try(Clock()), 0);
  EXPECT_EQ(kernel_->Poll({}, 10), -EINTR);
  EXPECT_EQ(kernel_->Poll({}, 10), 0);
}

TEST_F(SimKernelTest, ProcTellsOfTasks) {
  Make();
  const int32_t pid = Spawn();
  Order(pid, KernelWork::kThread);
  kernel_->Run(10'000'000);
  const auto threads = kernel_->ListNumbers("/proc/" + std::to_string(pid) + "/task");
  ASSERT_TRUE(threads.ok());
  EXPECT_EQ(threads->size(), 2u);
  EXPECT_EQ(kernel_->ListNumbers("/proc").value().back(), pid);
  const std::string proc = "/proc/" + std::to_string(pid);
  EXPECT_EQ(kernel_->ReadFile(proc + "/comm", 64).value(), "sim:work\n");
  EXPECT_NE(kernel_->ReadFile(proc + "/status", 4096).value().find("Tgid:\t" + std::to_string(pid)),
            std::string::npos);
  EXPECT_NE(kernel_->ReadFile(proc + "/maps", 4096).value().find("r-xp 00000000 fe:01"),
            std::string::npos);
  EXPECT_EQ(kernel_->ReadFile(proc + "/maps", 10).status().code(),
            absl::StatusCode::kResourceExhausted);
  Order(pid, KernelWork::kExit);
  kernel_->Run(10'000'000);
  EXPECT_EQ(kernel_->ReadFile(proc + "/comm", 64).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SimKernelTest, AThreadThatExecutesBecomesTheLeader) {
  Make();
  const int32_t pid = Spawn();
  const int process = kernel_->OpenPid(pid);
  Order(pid, KernelWork::kThread);
  kernel_->Run(10'000'000);
  const auto tids = kernel_->ListNumbers("/proc/" + std::to_string(pid) + "/task").value();
  ASSERT_EQ(tids.size(), 2u);
  Order(tids[1], KernelWork::kExec);
  kernel_->Run(20'000'000);
  EXPECT_EQ(kernel_->ListNumbers("/proc/" + std::to_string(pid) + "/task").value(),
            std::vector<int32_t>{pid});
  EXPECT_EQ(Poll(process, 0), 0);
  Order(pid, KernelWork::kExit);
  EXPECT_EQ(Poll(process, 100), POLLIN);
}

// Run with ThreadSanitizer.
TEST_F(SimKernelTest, CallsComeFromAnyThread) {
  Make();
  Spawn(Lively());
  perf_event_attr attr = Clock(20'000);
  attr.watermark = 1;
  attr.wakeup_watermark = 4096;
  const int fd = kernel_->OpenEvent(attr, -1, 0);
  int error = 0;
  void* memory = kernel_->MapRing(fd, 65536, &error);
  ASSERT_NE(memory, nullptr);
  const int signal = kernel_->OpenSignal();
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    pmu::Ring ring(memory, kSimPageBytes, 65536);
    uint64_t bytes = 0;
    while (!stop) {
      pollfd fds[] = {{fd, POLLIN, 0}, {signal, POLLIN, 0}};
      kernel_->Poll(fds, -1);
      ring.Refresh();
      while (const perf_event_header* header = ring.Peek()) {
        bytes += header->size;
        ring.Advance();
      }
      ring.Release();
    }
    EXPECT_GT(bytes, 0u);
  });
  std::thread opener([&] {
    for (int i = 0; i < 300; ++i) kernel_->Close(kernel_->OpenEvent(Clock(10'000), -1, i % 4));
  });
  opener.join();
  while (kernel_->Now() < 1'300'000'000) kernel_->Run(1'000'000);
  stop = true;
  kernel_->Signal(signal);
  reader.join();
}

}  // namespace
}  // namespace lbrd::sim
