// The same seed gives the same bytes; and a large machine is possible.
#include <gtest/gtest.h>

#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

// FNV-1a over every byte that a session reads, and its counts.
struct Fingerprint {
  uint64_t hash = 0xcbf29ce484222325;
  uint64_t records = 0;
  void Add(const void* bytes, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      hash = (hash ^ static_cast<const uint8_t*>(bytes)[i]) * 0x100000001b3;
    }
  }
};

Fingerprint RunSession(uint64_t seed, pmu::StackSource source) {
  SimOptions options;
  options.machine.cpus = 8;
  options.machine.seed = seed;
  SimKernel kernel(options);
  Behaviour how = Lively();
  how.long_jump = how.fiber = 500;
  Populate(&kernel, how, 20);
  kernel.WithFaults([](Faults& faults) { faults.FailByChance(Call::kPoll, 100'000, EINTR); });
  kernel.With([](Machine& machine) {
    machine.At(machine.now() + 100 * kMs, [](Machine& m) { m.TakeOffline(3); });
    machine.At(machine.now() + 200 * kMs, [](Machine& m) { m.BringOnline(3); });
  });
  Fingerprint print;
  const auto chosen = Choose(&kernel, "cycles", source, 1999);
  EXPECT_TRUE(chosen.ok()) << chosen.status();
  auto set = pmu::EventSet::Open(kernel, *chosen, {}, kRing);
  EXPECT_TRUE(set.ok()) << set.status();
  EXPECT_TRUE((*set)->StartSideBand().ok());
  EXPECT_TRUE((*set)->StartSampling().ok());
  const uint64_t end = kernel.Now() + 400 * kMs;
  bool finished = false;
  while (true) {
    pmu::RawRecord raw;
    const auto result = (*set)->Next(&raw);
    EXPECT_TRUE(result.ok());
    if (*result == pmu::ReadResult::kEnd) break;
    if (*result == pmu::ReadResult::kRecord) {
      print.Add(raw.header, raw.header->size);
      ++print.records;
    } else if (kernel.Now() < end) {
      (*set)->Wait(absl::Milliseconds(50));
    } else if (!std::exchange(finished, true)) {
      (*set)->Finish();
    }
  }
  const PerfCounts counts = kernel.perf_counts();
  print.Add(&counts, sizeof(counts));
  return print;
}

TEST(Determinism, TheSameSeedAndCallsGiveTheSameBytes) {
  for (const pmu::StackSource source :
       {pmu::StackSource::kLbr, pmu::StackSource::kKernelDeferred, pmu::StackSource::kDwarf}) {
    const Fingerprint first = RunSession(11, source);
    const Fingerprint again = RunSession(11, source);
    const Fingerprint other = RunSession(12, source);
    EXPECT_GT(first.records, 2000u);
    EXPECT_EQ(first.records, again.records);
    EXPECT_EQ(first.hash, again.hash);
    EXPECT_NE(first.hash, other.hash);
  }
}

TEST(Scale, FiveHundredCpusAndAMillionTasks) {
  SimOptions options;
  options.machine.cpus = 512;
  options.machine.mean_wake_idle_ns = 20'000;
  options.machine.max_tasks = 1'100'000;
  options.truth_bytes = size_t{16} << 20;
  SimKernel kernel(options);
  kernel.With([](Machine& machine) {
    Behaviour quiet;
    quiet.mean_sleep_ns = 0;
    quiet.sleep = 200'000;
    machine.SpawnIdle(machine.AddProgram({.name = "idle"}), 1'000'000, machine.AddBehaviour(quiet));
    // What the million cost.
    EXPECT_LE(machine.tasks().bytes() / machine.tasks().size(), 200u);
  });
  Behaviour how = Lively();
  how.mean_step_ns = 50'000;
  Populate(&kernel, how, 700);
  const auto chosen = Choose(&kernel, "cycles", pmu::StackSource::kLbr);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  auto set = pmu::EventSet::Open(kernel, *chosen, {}, 65536);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->cpus(), 512u);
  ASSERT_TRUE((*set)->StartSideBand().ok());
  EXPECT_GE(kernel.ListNumbers("/proc").value().size(), 1'000'000u);
  ASSERT_TRUE((*set)->StartSampling().ok());
  SetReader reader{&kernel, set->get(), pmu::StackSource::kLbr, false, {}};
  reader.RunFor(100 * kMs);
  reader.Finish();
  const pmu::SourceStats stats = (*set)->stats();
  EXPECT_GT(stats.samples, 10'000u);
  EXPECT_EQ(stats.samples + stats.lost_samples, kernel.perf_counts().samples_generated);
  EXPECT_EQ(stats.lost_samples, kernel.perf_counts().samples_lost);
  EXPECT_EQ(stats.late_records, 0u);
  EXPECT_GT(kernel.machine_counts().switches, 10'000u);
  EXPECT_GT(kernel.machine_counts().migrations, 1'000u);
}

}  // namespace
}  // namespace lbrd::sim
