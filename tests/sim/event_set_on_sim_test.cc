// pmu::EventSet, unchanged, on the simulated kernel: nothing is lost uncounted, everything decodes,
// order holds, and what is sampled is the truth.
#include <gtest/gtest.h>

#include "pmu/event_set.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

TEST(EventSetOnSim, SeesAllCpusByFramePointersAndTheAccountCloses) {
  SimOptions options;
  options.machine.cpus = 8;
  SimKernel kernel(options);
  Populate(&kernel, Lively(), 20);
  const auto event = Choose(&kernel, "cpu-clock", pmu::StackSource::kFramePointer, 4999);
  ASSERT_TRUE(event.ok()) << event.status();
  auto set = pmu::EventSet::Open(kernel, *event, {}, kRing);
  ASSERT_TRUE(set.ok()) << set.status();
  Reader reader{&kernel, set->get(), pmu::StackSource::kFramePointer};
  ASSERT_TRUE((*set)->StartSideBand().ok());
  ASSERT_TRUE((*set)->StartSampling().ok());
  reader.RunFor(2000 * kMs);
  reader.Finish();
  const pmu::SourceStats stats = (*set)->stats();
  const PerfCounts counts = kernel.perf_counts();
  EXPECT_GT(reader.seen.samples, 10'000u);
  EXPECT_GT(reader.seen.stacks_checked, 10'000u);
  EXPECT_EQ(stats.samples + stats.lost_samples, counts.samples_generated);
  EXPECT_EQ(stats.lost_samples, counts.samples_lost);
  EXPECT_EQ(stats.other_records, counts.others_written + reader.seen.by_type[PERF_RECORD_LOST]);
  EXPECT_EQ(stats.undecodable, 0u);
  EXPECT_EQ(stats.late_records, 0u);
  EXPECT_EQ(reader.seen.out_of_order, 0u);
  const MachineCounts machine = kernel.machine_counts();
  EXPECT_GT(machine.forks, 100u);
  EXPECT_GT(reader.seen.forked.size(), machine.forks * 9 / 10);
  EXPECT_GT(reader.seen.exited.size(), 50u);
  EXPECT_GT(reader.seen.by_type[PERF_RECORD_MMAP2], 100u);
  EXPECT_GT(reader.seen.by_type[PERF_RECORD_COMM], 50u);
  set->reset();
  EXPECT_EQ(kernel.open_descriptors(), 0u);
  EXPECT_EQ(kernel.open_events(), 0u);
  EXPECT_EQ(kernel.mapped_rings(), 0u);
  EXPECT_EQ(kernel.bad_closes(), 0u);
}

}  // namespace
}  // namespace lbrd::sim
