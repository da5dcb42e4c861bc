// CPUs going off and on at random while processes fork and exit, under a session on all CPUs and
// under one on a process: neither hangs, no thread is missed, every sample and every gap is
// accounted for.
//
// The oracle of gaps is the script that toggles the CPUs, and the simulated kernel's own
// time_enabled: what the events were not enabled, of CPUs × time, must be told as gaps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "pmu/cpu_target.h"
#include "pmu/cpu_watch.h"
#include "pmu/thread_target.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

constexpr int32_t kCpus = 256;
// A CPU that is back is noticed by its dead event at the second close look, at the latest; looks
// happen when they are due and the reader is awake (at most 50 ms later).
constexpr uint64_t kDetectionNs =
    2 * (pmu::CpuTarget::kLivenessNs + pmu::CpuWatch::kIntervalNs) + 200 * kMs;
// Enabling 256 CPUs takes a call each, and so does reading when their events began.
constexpr uint64_t kCallsNs = 2 * kMs;

struct Offline {
  uint64_t from = 0;
  uint64_t to = kNever;  // kNever: it lasts
};

// Toggles CPUs at random: some for a moment, some for seconds.
class Storm {
 public:
  // `mean_ns` between two of them, machine-wide.
  Storm(SimKernel* kernel, uint64_t mean_ns, uint64_t until)
      : mean_ns_(mean_ns), until_(until), offline_(kCpus) {
    kernel->With([this](Machine& machine) { Plan(machine); });
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

  const std::vector<Offline>& offline(int32_t cpu) const {
    return offline_[static_cast<size_t>(cpu)];
  }
  uint64_t offs() const { return offs_; }
  // How long CPUs were offline up to `end`, summed.
  uint64_t OfflineNs(uint64_t end) const {
    uint64_t sum = 0;
    for (const auto& times : offline_) {
      for (const Offline& time : times) sum += std::min(time.to, end) - std::min(time.from, end);
    }
    return sum;
  }

 private:
  void Plan(Machine& machine) {
    const uint64_t at = machine.now() + machine.random().Around(mean_ns_);
    if (at >= until_) return;
    machine.At(at, [this](Machine& m) {
      Toggle(m);
      Plan(m);
    });
  }
  void Toggle(Machine& machine) {
    const auto cpu = static_cast<int32_t>(machine.random().Below(kCpus));
    if (!machine.TakeOffline(cpu)) return;
    ++offs_;
    offline_[static_cast<size_t>(cpu)].push_back({.from = machine.now()});
    // Gone for less than a look takes, or for longer; half each.
    const uint64_t mean = machine.random().Chance(500'000) ? 20 * kMs : 900 * kMs;
    machine.At(machine.now() + machine.random().Around(mean), [this, cpu](Machine& m) {
      if (m.BringOnline(cpu)) offline_[static_cast<size_t>(cpu)].back().to = m.now();
    });
  }

  const uint64_t mean_ns_;
  const uint64_t until_;
  uint64_t offs_ = 0;
  std::vector<std::vector<Offline>> offline_;
};

class HotplugStorm : public ::testing::Test {
 protected:
  // Closing takes virtual time, in which the storm goes on.
  void TearDown() override {
    set_.reset();
    if (kernel_ == nullptr) return;
    EXPECT_EQ(kernel_->open_descriptors(), 0u);
    EXPECT_EQ(kernel_->open_events(), 0u);
    EXPECT_EQ(kernel_->mapped_rings(), 0u);
    EXPECT_EQ(kernel_->bad_closes(), 0u);
  }

  void Make(uint64_t seed, const PerfOptions& perf = {}) {
    SimOptions options;
    options.machine.cpus = kCpus;
    options.machine.seed = seed;
    options.perf = perf;
    kernel_ = std::make_unique<SimKernel>(options);
  }
  // Forks and ends all the time; steps are long, so that a virtual second is cheap.
  static Behaviour Forking() {
    Behaviour how;
    how.mean_step_ns = 100'000;
    how.sleep = 100'000;
    how.fork = 2'000;
    how.thread = 1'500;
    how.exec = 100;
    how.exit = 1'000;
    how.exit_thread = 2'500;
    how.map = 500;
    return how;
  }
  void Start(const pmu::EventTarget& target, uint64_t ring_bytes, uint32_t hz = 999) {
    const auto chosen = Choose(kernel_.get(), "cpu-clock", pmu::StackSource::kFramePointer, hz);
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    auto set = pmu::EventSet::Open(*kernel_, *chosen, target, ring_bytes);
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = *std::move(set);
    reader_ = {kernel_.get(), set_.get(), pmu::StackSource::kFramePointer, true, {}};
    ASSERT_TRUE(set_->StartSideBand().ok());
    kernel_->With([this](Machine& machine) {
      for (const int32_t leader : machine.tasks().Leaders()) {
        const auto tids = TaskTable::Threads(*machine.tasks().Find(leader)->process);
        at_start_.insert(tids.begin(), tids.end());
      }
    });
    ASSERT_TRUE(set_->StartSampling().ok());
    begin_ = kernel_->Now();
  }
  void Brew(uint64_t mean_ns, uint64_t until) {
    storm_ = std::make_unique<Storm>(kernel_.get(), mean_ns, until);
  }
  // Reads for `ns` of virtual time, then to the end. The watchdog: a reader that only turns in
  // circles, without time going on, does not end.
  void ReadToTheEnd(uint64_t ns) {
    const uint64_t until = kernel_->Now() + ns;
    uint64_t waits = 0;
    while (kernel_->Now() < until) {
      ASSERT_TRUE(reader_.ReadAll());
      set_->Wait(absl::Milliseconds(50));
      ASSERT_LT(++waits, 1'000'000u) << "hangs at " << kernel_->Now();
    }
    end_ = kernel_->Now();
    reader_.Finish();
    pmu::RawRecord raw;
    ASSERT_EQ(*set_->Next(&raw), pmu::ReadResult::kEnd);
    EXPECT_LT(kernel_->Now() - end_, 1'000 * kMs) << "took long to end";
  }
  void CheckAccount() {
    const pmu::SourceStats stats = set_->stats();
    const PerfCounts counts = kernel_->perf_counts();
    EXPECT_EQ(stats.samples + stats.lost_samples, counts.samples_generated);
    EXPECT_EQ(stats.lost_samples, counts.samples_lost);
    EXPECT_EQ(counts.samples_without_ring, 0u);
    EXPECT_EQ(stats.other_records, counts.others_written + reader_.seen.by_type[PERF_RECORD_LOST]);
    EXPECT_EQ(stats.lost_other, counts.others_lost);
    EXPECT_EQ(reader_.seen.with_truth + stats.duplicates, stats.samples);
    EXPECT_EQ(stats.undecodable, 0u);
    EXPECT_EQ(stats.late_records, 0u);
    EXPECT_EQ(reader_.seen.out_of_order, 0u);
  }
  // Each gap that is told one by one is one that was, from when the CPU went until its return was
  // noticed; all of them together are what the events were not enabled.
  void CheckGaps() {
    const Storm& storm = *storm_;
    const pmu::SourceStats stats = set_->stats();
    EXPECT_EQ(stats.gaps.size(), std::min<uint64_t>(stats.gap_count, pmu::kMaxGaps));
    for (const pmu::CpuGap& gap : stats.gaps) {
      const std::string what = testing::PrintToString(gap.cpu) + " from " +
                               testing::PrintToString(gap.from_ns) + " to " +
                               testing::PrintToString(gap.to_ns);
      const std::vector<Offline>& times = storm.offline(gap.cpu);
      const auto first = std::find_if(times.begin(), times.end(), [&](const Offline& time) {
        return time.from <= gap.from_ns + kCallsNs && gap.from_ns <= time.from + kCallsNs;
      });
      ASSERT_NE(first, times.end()) << "no such gap: CPU " << what;
      if (gap.to_ns == 0) continue;
      // It may have gone again before it was noticed to be back.
      uint64_t back = first->to;
      for (const Offline& time : times) {
        if (time.from > first->from && time.from < gap.to_ns) back = time.to;
      }
      EXPECT_LE(back, gap.to_ns) << "sampled while offline: CPU " << what;
      EXPECT_LE(gap.to_ns, back + kDetectionNs) << "noticed late: CPU " << what;
    }
    // Every gap is counted: of each time offline there is one, or the one before lasted.
    uint64_t untold = 0;
    uint64_t least = 0;
    for (int32_t cpu = 0; cpu < kCpus; ++cpu) {
      uint64_t covered_until = 0;
      for (const Offline& time : storm.offline(cpu)) {
        const bool told =
            std::any_of(stats.gaps.begin(), stats.gaps.end(), [&](const pmu::CpuGap& gap) {
              return gap.cpu == cpu && gap.from_ns <= time.from + kCallsNs &&
                     (gap.to_ns == 0 || time.from < gap.to_ns);
            });
        untold += !told;
        if (time.from < covered_until) continue;
        ++least;
        covered_until = time.to == kNever ? kNever : time.to + kDetectionNs;
      }
    }
    if (stats.gap_count <= pmu::kMaxGaps) {
      EXPECT_EQ(untold, 0u);
    }
    EXPECT_GE(stats.gap_count, least);
    EXPECT_LE(stats.gap_count, storm.offs());
    const uint64_t whole = kCpus * (end_ - begin_);
    ASSERT_LE(stats.time_enabled_ns, whole + kCpus * kCallsNs);
    const uint64_t tolerance = (stats.gap_count + kCpus) * kCallsNs;
    EXPECT_NEAR(static_cast<double>(stats.gap_ns + stats.time_enabled_ns),
                static_cast<double>(whole), static_cast<double>(tolerance));
    const uint64_t offline_ns = storm.OfflineNs(end_);
    EXPECT_GE(stats.gap_ns + tolerance, offline_ns);
    EXPECT_LE(stats.gap_ns, offline_ns + stats.gap_count * kDetectionNs);
    RecordProperty("gaps", static_cast<int>(stats.gap_count));
    RecordProperty("offs", static_cast<int>(storm.offs()));
    RecordProperty("samples", static_cast<int>(stats.samples));
    RecordProperty("forks", static_cast<int>(kernel_->machine_counts().forks));
  }

  std::unique_ptr<Storm> storm_;
  std::unique_ptr<SimKernel> kernel_;
  std::unique_ptr<pmu::EventSet> set_;
  SetReader reader_{};
  std::set<int32_t> at_start_;  // tids, before anything was sampled
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

TEST_F(HotplugStorm, EachGapOfTheMachineIsToldOneByOne) {
  Make(3);
  Populate(kernel_.get(), Forking(), 100);
  Start({}, 64 << 10, 199);
  Brew(110 * kMs, kernel_->Now() + 6'000 * kMs);
  ReadToTheEnd(6'000 * kMs);
  CheckAccount();
  CheckGaps();
  EXPECT_LE(set_->stats().gap_count, pmu::kMaxGaps);
  EXPECT_GT(storm_->offs(), 30u);
}

TEST_F(HotplugStorm, TheMachineIsSampledThrough) {
  for (const uint64_t seed : {1, 2}) {
    Make(seed);
    Populate(kernel_.get(), Forking(), 500);
    Start({}, 64 << 10, 499);
    Brew(2 * kMs, kernel_->Now() + 4'000 * kMs);
    ReadToTheEnd(4'000 * kMs);
    CheckAccount();
    CheckGaps();
    EXPECT_GT(set_->stats().gap_count, 256u);
    EXPECT_GT(set_->stats().samples, 10'000u);
    EXPECT_GT(kernel_->machine_counts().forks, 2'000u);
    TearDown();
  }
}

TEST_F(HotplugStorm, ACpuThatWentJustBeforeTheEndIsAGap) {
  Make(4);
  Populate(kernel_.get(), Forking(), 20);
  Start({}, 64 << 10, 199);
  // One that stays away, and one that only blinked: neither was looked at again.
  kernel_->With([](Machine& machine) {
    machine.At(machine.now() + 1'490 * kMs, [](Machine& m) {
      m.TakeOffline(7);
      m.TakeOffline(9);
    });
    machine.At(machine.now() + 1'495 * kMs, [](Machine& m) { m.BringOnline(9); });
  });
  ReadToTheEnd(1'500 * kMs);
  CheckAccount();
  const pmu::SourceStats stats = set_->stats();
  ASSERT_EQ(stats.gap_count, 2u);
  for (const size_t i : {0, 1}) {
    EXPECT_EQ(stats.gaps[i].cpu, i == 0 ? 7 : 9);
    EXPECT_NEAR(static_cast<double>(stats.gaps[i].from_ns),
                static_cast<double>(begin_ + 1'490 * kMs), static_cast<double>(kCallsNs));
    EXPECT_EQ(stats.gaps[i].to_ns, 0u);
  }
  EXPECT_NEAR(static_cast<double>(stats.gap_ns), 2.0 * 10 * kMs, 4.0 * kCallsNs);
}

// A process with threads that fork, alone on the machine: whoever is born is its descendant.
class HotplugStormOfAProcess : public HotplugStorm {
 protected:
  static constexpr int kThreads = 64;

  void SpawnTarget(const Behaviour& how) {
    kernel_->With([&](Machine& machine) {
      SpawnOptions spawn;
      spawn.behaviour = machine.AddBehaviour(how);
      Task* leader = machine.Spawn(machine.AddProgram({}), spawn);
      pid_ = leader->tid;
      for (int i = 1; i < kThreads; ++i) machine.SpawnThread(leader->process, spawn);
    });
    kernel_->set_truth_observer([this](const Truth& truth) { sampled_.insert(truth.tid); });
  }
  // Every so often: who has lived for long.
  void Watch(uint64_t until) {
    kernel_->With([&](Machine& machine) { Look(machine, until); });
  }
  void Look(Machine& machine, uint64_t until) {
    for (const int32_t leader : machine.tasks().Leaders()) {
      if (leader < pid_) continue;
      for (const int32_t tid : TaskTable::Threads(*machine.tasks().Find(leader)->process)) {
        const Task* task = machine.tasks().Find(tid);
        if (task == nullptr || task->state == TaskState::kZombie) continue;
        if (machine.now() - task->born > 300 * kMs) old_.insert(tid);
      }
    }
    if (machine.now() >= until) return;
    machine.At(machine.now() + 20 * kMs, [this, until](Machine& m) { Look(m, until); });
  }
  // Who was sampled is told of, by a birth or as one who was there before, where births are
  // inherited. (One that is followed by itself may have been born before its parent was: it is
  // found in a list.)
  void CheckThreads(bool each_birth_is_told) {
    std::set<int32_t> known = reader_.seen.forked;
    known.insert(at_start_.begin(), at_start_.end());
    for (const int32_t tid : sampled_) {
      if (each_birth_is_told) {
        EXPECT_EQ(known.count(tid), 1u) << "unknown thread " << tid;
      }
    }
    // Whoever lived for long was on a CPU, and was sampled.
    for (const int32_t tid : old_) {
      EXPECT_EQ(sampled_.count(tid), 1u) << "missed thread " << tid;
    }
    EXPECT_GT(old_.size(), 20u);
    RecordProperty("forked", static_cast<int>(reader_.seen.forked.size()));
    RecordProperty("old", static_cast<int>(old_.size()));
  }

  int32_t pid_ = 0;
  std::set<int32_t> sampled_;
  std::set<int32_t> old_;
};

Behaviour ForkingOften() {
  Behaviour how;
  how.mean_step_ns = 100'000;
  how.sleep = 50'000;
  how.fork = 150;
  how.thread = 500;
  how.exit_thread = 640;
  return how;
}

TEST_F(HotplugStormOfAProcess, NoThreadIsMissed) {
  Make(5);
  SpawnTarget(ForkingOften());
  Start({.pid = pid_}, 64 << 10);
  const uint64_t before = kernel_->machine_counts().forks;
  const uint64_t until = kernel_->Now() + 2'000 * kMs;
  Brew(2 * kMs, until);
  Watch(until);
  ReadToTheEnd(2'000 * kMs);
  CheckAccount();
  CheckThreads(/*each_birth_is_told=*/true);
  EXPECT_EQ(set_->stats().lost_other, 0u);
  // A thread's events go where it goes: no gaps; and every birth is told.
  EXPECT_EQ(set_->stats().gap_count, 0u);
  EXPECT_GE(reader_.seen.forked.size(), kernel_->machine_counts().forks - before);
  EXPECT_GT(reader_.seen.forked.size(), 500u);
  EXPECT_GT(storm_->offs(), 500u);
}

TEST_F(HotplugStormOfAProcess, NorWhereItIsFollowedThreadByThread) {
  // 64 threads on 256 CPUs would need 32,768 descriptors.
  Make(6, {.max_descriptors = 8'192});
  SpawnTarget(ForkingOften());
  Start({.pid = pid_}, 64 << 10);
  const uint64_t before = kernel_->machine_counts().forks;
  const uint64_t until = kernel_->Now() + 2'000 * kMs;
  Brew(2 * kMs, until);
  Watch(until);
  ReadToTheEnd(2'000 * kMs);
  CheckAccount();
  CheckThreads(/*each_birth_is_told=*/false);
  ASSERT_FALSE(set_->notes().empty());
  EXPECT_THAT(set_->notes()[0], testing::HasSubstr("thread by thread"));
  EXPECT_EQ(set_->stats().lost_other, 0u);
  EXPECT_EQ(set_->stats().gap_count, 0u);
  const uint64_t born = kernel_->machine_counts().forks - before;
  EXPECT_GT(reader_.seen.forked.size(), born * 9 / 10);
  EXPECT_GT(storm_->offs(), 500u);
}

TEST_F(HotplugStormOfAProcess, NorWhereDescriptorsRunOutWhileOpening) {
  Make(7);
  SpawnTarget(ForkingOften());
  // In the middle of the events of the fourth thread.
  kernel_->WithFaults([](Faults& faults) { faults.FailNth(Call::kOpenEvent, 1'800, EMFILE); });
  Start({.pid = pid_}, 64 << 10);
  const uint64_t until = kernel_->Now() + 1'000 * kMs;
  Watch(until);
  ReadToTheEnd(1'000 * kMs);
  CheckAccount();
  CheckThreads(/*each_birth_is_told=*/false);
  ASSERT_FALSE(set_->notes().empty());
  EXPECT_THAT(set_->notes()[0], testing::HasSubstr("thread by thread"));
}

}  // namespace
}  // namespace lbrd::sim
