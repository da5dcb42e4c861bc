// pmu::EventSet, unchanged, on the simulated kernel: nothing is lost uncounted, everything decodes,
// order holds, and what is sampled is the truth.
#include <gtest/gtest.h>

#include <cerrno>

#include "pmu/event_set.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

class EventSetOnSim : public ::testing::Test {
 protected:
  ~EventSetOnSim() override {
    set_.reset();
    if (kernel_ == nullptr) return;
    EXPECT_EQ(kernel_->open_descriptors(), 0u);
    EXPECT_EQ(kernel_->open_events(), 0u);
    EXPECT_EQ(kernel_->mapped_rings(), 0u);
    EXPECT_EQ(kernel_->bad_closes(), 0u);
  }

  // Makes the machine, and opens and starts a set on it.
  void Start(const SimOptions& options, const Behaviour& how, int processes,
             const std::string& event, pmu::StackSource source, const pmu::EventTarget& target = {},
             uint64_t ring_bytes = kRing) {
    kernel_ = std::make_unique<SimKernel>(options);
    Populate(kernel_.get(), how, processes);
    Open(event, source, target, ring_bytes);
  }
  void Open(const std::string& event, pmu::StackSource source, const pmu::EventTarget& target,
            uint64_t ring_bytes = kRing) {
    const auto chosen = Choose(kernel_.get(), event, source, 4999);
    ASSERT_TRUE(chosen.ok()) << chosen.status();
    auto set = pmu::EventSet::Open(*kernel_, *chosen, target, ring_bytes);
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = *std::move(set);
    reader_ = {kernel_.get(), set_.get(), source, true, {}};
    ASSERT_TRUE(set_->StartSideBand().ok());
    ASSERT_TRUE(set_->StartSampling().ok());
  }
  // Every sample and every other record was seen, or is counted as lost, by the kernel's own count.
  void CheckAccount() {
    const pmu::SourceStats stats = set_->stats();
    const PerfCounts counts = kernel_->perf_counts();
    EXPECT_EQ(stats.samples + stats.lost_samples, counts.samples_generated);
    EXPECT_EQ(stats.lost_samples, counts.samples_lost);
    EXPECT_EQ(stats.other_records, counts.others_written + reader_.seen.by_type[PERF_RECORD_LOST]);
    EXPECT_EQ(stats.lost_other, counts.others_lost);
    EXPECT_EQ(reader_.seen.with_truth, stats.samples);
    EXPECT_EQ(stats.undecodable, 0u);
    EXPECT_EQ(stats.late_records, 0u);
    EXPECT_EQ(reader_.seen.out_of_order, 0u);
  }

  std::unique_ptr<SimKernel> kernel_;
  std::unique_ptr<pmu::EventSet> set_;
  SetReader reader_{};
};

SimOptions Cpus(int32_t cpus) {
  SimOptions options;
  options.machine.cpus = cpus;
  return options;
}

TEST_F(EventSetOnSim, FramePointersOnAllCpus) {
  Start(Cpus(8), Lively(), 20, "cpu-clock", pmu::StackSource::kFramePointer);
  reader_.RunFor(2000 * kMs);
  reader_.Finish();
  CheckAccount();
  EXPECT_GT(reader_.seen.stacks_checked, 10'000u);
  const MachineCounts machine = kernel_->machine_counts();
  EXPECT_GT(machine.forks, 100u);
  EXPECT_EQ(reader_.seen.by_type[PERF_RECORD_FORK], reader_.seen.forked.size());
  EXPECT_GT(reader_.seen.forked.size(), machine.forks * 9 / 10);
  EXPECT_GT(reader_.seen.exited.size(), 50u);
  EXPECT_GT(reader_.seen.by_type[PERF_RECORD_MMAP2], 100u);
  EXPECT_GT(reader_.seen.by_type[PERF_RECORD_COMM], 30u);
}

TEST_F(EventSetOnSim, SmallRingsLoseAndCount) {
  Start(Cpus(4), Lively(), 20, "cpu-clock", pmu::StackSource::kFramePointer, {}, 8192);
  for (int i = 0; i < 20; ++i) {
    kernel_->Run(50 * kMs);  // nobody reads meanwhile
    reader_.ReadAll();
    reader_.ReadAll();
  }
  reader_.Finish();
  CheckAccount();
  EXPECT_GT(set_->stats().lost_samples, 1000u);
  EXPECT_GT(set_->stats().lost_other, 10u);
  EXPECT_GT(reader_.seen.by_type[PERF_RECORD_LOST], 10u);
}

struct LbrCase {
  const char* name;
  LbrKind kind;
  uint32_t depth;
  int minor;  // of Linux 6
  friend void PrintTo(const LbrCase& lbr, std::ostream* out) { *out << lbr.name; }
};

class LbrOnSim : public EventSetOnSim, public ::testing::WithParamInterface<LbrCase> {};

TEST_P(LbrOnSim, WindowsAreTheYoungestCalls) {
  SimOptions options = Cpus(8);
  options.perf.lbr = GetParam().kind;
  options.perf.lbr_depth = GetParam().depth;
  options.perf.minor = GetParam().minor;
  // Everybody starts while the LBR records, and has a stack of his own.
  Behaviour shallow = Lively();
  shallow.fork = shallow.exec = 0;
  shallow.max_depth = GetParam().depth;
  Start(options, shallow, 0, "cycles", pmu::StackSource::kLbr);
  Populate(kernel_.get(), shallow, 20);
  uint64_t stacks = 0;
  uint64_t whole = 0;
  kernel_->set_truth_observer([&](const Truth& truth) {
    if (!truth.has_user) return;
    ++stacks;
    whole += truth.lbr_entries == truth.call_sites.size();
  });
  reader_.RunFor(500 * kMs);
  EXPECT_GT(stacks, 3'000u);
  if (GetParam().minor >= 15) {
    EXPECT_EQ(whole, stacks);
  } else {
    EXPECT_LT(whole, stacks / 2);  // each switch empties it
  }

  // Stacks deeper than the LBR: the youngest calls, as many as it holds.
  Behaviour deep;
  deep.target_depth = 40;
  Populate(kernel_.get(), deep, 20);
  uint64_t full = 0;
  kernel_->set_truth_observer([&](const Truth& truth) {
    EXPECT_LE(truth.lbr_entries, GetParam().depth);
    full += truth.lbr_entries == GetParam().depth;
  });
  reader_.RunFor(500 * kMs);
  EXPECT_GT(full, 0u);
  reader_.Finish();
  CheckAccount();
  EXPECT_GT(reader_.seen.stacks_checked, 5'000u);
  switch (GetParam().kind) {
    case LbrKind::kArchitectural:
      EXPECT_EQ(reader_.seen.hw_indices, std::set<uint64_t>{0});
      break;
    case LbrKind::kArchitecturalMinusOne:
      EXPECT_EQ(reader_.seen.hw_indices, std::set<uint64_t>{~uint64_t{0}});
      break;
    default:
      EXPECT_EQ(reader_.seen.hw_indices.size(), GetParam().depth);
      EXPECT_EQ(*reader_.seen.hw_indices.rbegin(), GetParam().depth - 1);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, LbrOnSim,
    ::testing::Values(LbrCase{"Legacy32", LbrKind::kLegacy, 32, 19},
                      LbrCase{"Legacy16", LbrKind::kLegacy, 16, 15},
                      LbrCase{"Architectural", LbrKind::kArchitectural, 32, 19},
                      LbrCase{"ArchitecturalMinusOne", LbrKind::kArchitecturalMinusOne, 16, 19},
                      LbrCase{"ResetAtSwitches", LbrKind::kLegacy, 32, 12}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_F(EventSetOnSim, WhatBreaksLifoBreaksLbrWindowsAndTheTruthSaysSo) {
  Behaviour how;
  how.long_jump = 5'000;
  how.fiber = 5'000;
  how.exec = 1'000;
  Start(Cpus(2), how, 8, "cycles", pmu::StackSource::kLbr);
  reader_.lbr_always_true = false;
  uint64_t wrong = 0;
  kernel_->set_truth_observer(
      [&](const Truth& truth) { wrong += truth.has_user && !truth.lbr_true; });
  reader_.RunFor(500 * kMs);
  reader_.Finish();
  CheckAccount();
  EXPECT_GT(wrong, 100u);
}

TEST_F(EventSetOnSim, AWindowRestoredLateShowsThePreviousTaskInTheKernelOnly) {
  SimOptions options = Cpus(2);
  options.perf.lbr_restored_late = true;
  Start(options, {}, 8, "cycles", pmu::StackSource::kLbr);
  reader_.lbr_always_true = false;
  uint64_t wrong_in_kernel = 0;
  uint64_t wrong_in_user = 0;
  kernel_->set_truth_observer([&](const Truth& truth) {
    if (truth.has_user && !truth.lbr_true) ++(truth.in_kernel ? wrong_in_kernel : wrong_in_user);
  });
  reader_.RunFor(500 * kMs);
  reader_.Finish();
  EXPECT_GT(wrong_in_kernel, 10u);
  EXPECT_EQ(wrong_in_user, 0u);
}

TEST_F(EventSetOnSim, DeferredChainsAreAnsweredOnceAndTrue) {
  Behaviour how = Lively();
  how.exec = 0;  // an answer after an exec is the new program's
  Start(Cpus(8), how, 20, "cpu-clock", pmu::StackSource::kKernelDeferred);
  reader_.RunFor(1500 * kMs);
  reader_.Finish();
  CheckAccount();
  uint64_t answered = 0;
  uint64_t from_kernel = 0;
  std::set<std::pair<int32_t, uint64_t>> asked;
  std::map<int32_t, uint64_t> last;  // cookie of each task
  for (const auto& truth : reader_.seen.deferred) last[truth->tid] = truth->cookie;
  for (const auto& truth : reader_.seen.deferred) {
    // The cookie names the CPU where the first one asked; others may ask where the task goes on.
    if (asked.emplace(truth->tid, truth->cookie).second) {
      EXPECT_EQ(truth->cookie & 0xffffffff, truth->cpu + 1);
    }
    const auto answer = reader_.seen.answers.find({truth->tid, truth->cookie});
    if (answer == reader_.seen.answers.end()) {
      // It exited, or is still in the kernel.
      EXPECT_EQ(last[truth->tid], truth->cookie);
      continue;
    }
    ++answered;
    from_kernel += truth->in_kernel;
    EXPECT_EQ(answer->second, truth->ReturnAddresses());
  }
  EXPECT_GT(reader_.seen.deferred.size(), 10'000u);
  EXPECT_GT(from_kernel, 100u);
  EXPECT_GT(answered, reader_.seen.deferred.size() * 95 / 100);
  // Samples of one stay in the kernel share a cookie.
  EXPECT_LT(asked.size(), reader_.seen.deferred.size());
  EXPECT_EQ(kernel_->perf_counts().answers, reader_.seen.answers.size());
}

TEST_F(EventSetOnSim, AProcessIsFollowedThroughForksAndThreads) {
  kernel_ = std::make_unique<SimKernel>(Cpus(4));
  Populate(kernel_.get(), {}, 6);  // others, that must not be seen
  int32_t pid = 0;
  kernel_->With([&](Machine& machine) {
    Behaviour how;
    how.fork = 1'000;
    how.thread = 4'000;
    how.exit_thread = 3'000;
    how.exit = 300;
    SpawnOptions spawn;
    spawn.behaviour = machine.AddBehaviour(how);
    Task* leader = machine.Spawn(machine.AddProgram({}), spawn);
    pid = leader->tid;
    for (int i = 0; i < 4; ++i) machine.SpawnThread(leader->process, spawn);
  });
  Open("cpu-clock", pmu::StackSource::kFramePointer, {.pid = pid});
  std::set<int32_t> sampled;
  kernel_->set_truth_observer([&](const Truth& truth) { sampled.insert(truth.tid); });
  reader_.RunFor(1500 * kMs);
  reader_.Finish();
  CheckAccount();
  EXPECT_GT(reader_.seen.samples, 1'000u);
  EXPECT_GT(reader_.seen.forked.size(), 20u);
  EXPECT_GT(reader_.seen.exited.size(), 10u);
  // Its first five threads, and whoever is known by a fork; nobody else.
  for (const int32_t tid : sampled) {
    EXPECT_TRUE((tid >= pid && tid < pid + 5) || reader_.seen.forked.count(tid) == 1) << tid;
  }
}

TEST_F(EventSetOnSim, ACommandIsCountedFromItsExecOnAndItsEndIsSeen) {
  kernel_ = std::make_unique<SimKernel>(Cpus(2));
  int32_t pid = 0;
  kernel_->With([&](Machine& machine) {
    SpawnOptions spawn;
    spawn.idle = true;
    pid = machine.Spawn(machine.AddProgram({}), spawn)->tid;
  });
  Open("cpu-clock", pmu::StackSource::kFramePointer, {.pid = pid, .enable_on_exec = true});
  reader_.RunFor(50 * kMs);
  EXPECT_EQ(reader_.seen.samples, 0u);
  kernel_->With([&](Machine& machine) { EXPECT_TRUE(machine.Order(pid, KernelWork::kExec)); });
  reader_.RunFor(200 * kMs);
  EXPECT_GT(reader_.seen.samples, 100u);
  EXPECT_FALSE(set_->target_gone());
  kernel_->With([&](Machine& machine) { EXPECT_TRUE(machine.Order(pid, KernelWork::kExit)); });
  reader_.RunFor(200 * kMs);
  EXPECT_TRUE(set_->target_gone());
  reader_.Finish();
  CheckAccount();
}

TEST_F(EventSetOnSim, CpusGoAndComeAndEveryRecordIsAccountedFor) {
  Start(Cpus(64), Lively(), 100, "cpu-clock", pmu::StackSource::kFramePointer);
  kernel_->With([](Machine& machine) {
    for (int i = 0; i < 500; ++i) {
      machine.At(machine.now() + static_cast<uint64_t>(i) * kMs, [](Machine& m) {
        const auto cpu = static_cast<int32_t>(m.random().Below(64));
        m.online(cpu) ? m.TakeOffline(cpu) : m.BringOnline(cpu);
      });
    }
  });
  reader_.RunFor(600 * kMs);
  reader_.Finish();
  CheckAccount();
  EXPECT_GT(reader_.seen.samples, 1'000u);
}

TEST_F(EventSetOnSim, NoFailedCallLeavesAnythingOpen) {
  SimOptions options = Cpus(4);
  kernel_ = std::make_unique<SimKernel>(options);
  Populate(kernel_.get(), Lively(), 4);
  const auto chosen = Choose(kernel_.get(), "cpu-clock", pmu::StackSource::kFramePointer);
  ASSERT_TRUE(chosen.ok());
  int failed = 0;
  kernel_->WithFaults([](Faults& faults) {
    faults.FailByChance(Call::kOpenEvent, 20'000, EMFILE);
    faults.FailByChance(Call::kOpenEvent, 20'000, ENOMEM);
    faults.FailByChance(Call::kOpenEvent, 20'000, ENODEV);
    faults.FailByChance(Call::kOpenEvent, 20'000, ESRCH);
    faults.FailByChance(Call::kOpenSignal, 20'000, EMFILE);
    faults.FailByChance(Call::kControl, 20'000, EINTR);
    faults.FailByChance(Call::kMapRing, 20'000, ENOMEM);
    faults.FailByChance(Call::kReadFile, 20'000, ENOMEM);
  });
  for (int i = 0; i < 300; ++i) {
    const auto set = pmu::EventSet::Open(*kernel_, *chosen, {}, 8192);
    if (set.ok()) continue;
    ++failed;
    EXPECT_EQ(kernel_->open_descriptors(), 0u) << set.status();
    EXPECT_EQ(kernel_->open_events(), 0u);
    EXPECT_EQ(kernel_->mapped_rings(), 0u);
  }
  EXPECT_GT(failed, 100);
  EXPECT_LT(failed, 300);
}

}  // namespace
}  // namespace lbrd::sim
