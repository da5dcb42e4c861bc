// The daemon's whole way of a sample on the simulated kernel: session source, event set, pipeline,
// resolver, names. What is delivered is the truth, frame by frame and name by name.
#include <gtest/gtest.h>

#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "daemon/pipeline.h"
#include "daemon/session_source.h"
#include "pmu/admission_limits.h"
#include "tests/sim/keeping_sink.h"
#include "tests/sim/program_elf.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

class PipelineOnSim : public ::testing::TestWithParam<v1::StackMode> {};

TEST_P(PipelineOnSim, DeliversTheTruth) {
  const v1::StackMode mode = GetParam();
  SimOptions options;
  options.machine.cpus = 4;
  SimKernel kernel(options);
  Behaviour how = Lively();
  how.exec = mode == v1::STACK_MODE_DWARF || mode == v1::STACK_MODE_FRAME_POINTER ? 50 : 0;
  ProgramFiles files;
  // Three kinds of process that ran before, and more that start while the session goes on.
  kernel.With([&](Machine& machine) {
    SpawnOptions spawn;
    spawn.behaviour = machine.AddBehaviour(how);
    for (int i = 0; i < 3; ++i) {
      ProgramOptions program;
      program.name = "work" + std::to_string(i);
      const auto made = machine.AddProgram(program);
      files.Add(*made);
      ASSERT_NE(machine.Spawn(made, spawn), nullptr);
      for (int later = 1; later < 5; ++later) {
        machine.At(machine.now() + static_cast<uint64_t>(later) * 60 * kMs,
                   [made, spawn](Machine& m) { m.Spawn(made, spawn); });
      }
    }
    SpawnOptions threads;
    threads.behaviour = spawn.behaviour;
    machine.SpawnKernelThread("sim:kworker", threads);
  });
  std::map<std::tuple<uint64_t, uint32_t, int32_t>, Truth> truths;  // under the kernel's lock
  kernel.set_truth_observer([&](const Truth& truth) {
    truths[{truth.time, truth.cpu, truth.tid}] = truth;
  });

  v1::SessionSpec spec;
  spec.mutable_target()->mutable_all_cpus();
  spec.set_stack_mode(mode);
  spec.set_frequency_hz(2999);
  const auto checked = daemon::CheckSpec(spec, /*replay=*/false);
  ASSERT_TRUE(checked.ok()) << checked.status();
  pmu::Admission admission(pmu::DetectAdmissionLimits(kernel));
  auto source = daemon::OpenSessionSource(kernel, admission, "simulated", *checked);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_NE(source->kernel_names.Get().symbols, nullptr) << source->kernel_names.Get().missing;
  EXPECT_EQ(source->described[0].stack_mode(), mode);

  unwind::BinaryCache binaries(&files);
  KeepingSink sink;
  daemon::PipelineStats stats;
  {
    const auto begin = source->begin;
    daemon::Pipeline pipeline(std::move(source->records), source->events, &binaries,
                              source->kernel_names, &sink, {.workers = 2});
    pmu::RecordWriter known;
    ASSERT_TRUE(begin(&known).ok());
    absl::Notification done;
    pipeline.Start(std::move(known), [&](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      done.Notify();
    });
    // The pipeline's own waiting drives the machine.
    while (kernel.Now() < 1'600'000'000 && !done.HasBeenNotified()) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    pipeline.RequestStop();
    done.WaitForNotification();
    pipeline.Join();
    stats = pipeline.stats();
  }
  const std::vector<daemon::Sample> samples = sink.samples();
  EXPECT_EQ(stats.undecodable_samples, 0u);
  EXPECT_EQ(stats.source.samples, samples.size() + stats.dropped_queue_full);
  EXPECT_EQ(stats.source.samples + stats.source.lost_samples,
            kernel.perf_counts().samples_generated);
  EXPECT_GT(samples.size(), 2000u);

  size_t whole = 0;
  size_t complete = 0;
  size_t missing = 0;
  size_t doubted = 0;
  for (const daemon::Sample& sample : samples) {
    const auto found = truths.find({sample.time_ns, sample.cpu, sample.thread->tid});
    ASSERT_NE(found, truths.end());
    const Truth& truth = found->second;
    const auto& frames = sample.stack->frames;
    ASSERT_GE(frames.size(), truth.kernel.size());
    for (size_t i = 0; i < truth.kernel.size(); ++i) {
      EXPECT_EQ(frames[i]->ip, truth.kernel[i]);
      EXPECT_EQ(frames[i]->symbol.rfind("sim_", 0), 0u) << frames[i]->symbol;
    }
    if (!truth.has_user) continue;
    if (sample.stack->verdict.reason == unwind::StackReason::kDeferredMissing) {
      ++missing;
      continue;
    }
    size_t calls = truth.call_sites.size();
    // A window that began within the stack, or that the stack is deeper than, is its youngest part.
    if (mode == v1::STACK_MODE_LBR) {
      EXPECT_TRUE(truth.lbr_true);
      calls = truth.lbr_entries;
      // Two tail calls in a row look like a call that does not follow: the window is cut there, or
      // not sure where a jump may lead anywhere.
      if (sample.stack->verdict.reason == unwind::StackReason::kCallsDoNotChain) {
        ++doubted;
        ASSERT_LE(frames.size(), truth.kernel.size() + 1 + calls);
        calls = frames.size() - truth.kernel.size() - 1;
      }
    }
    ASSERT_EQ(frames.size(), truth.kernel.size() + 1 + calls)
        << unwind::StackReasonName(sample.stack->verdict.reason) << " at " << frames.back()->symbol;
    whole += calls == truth.call_sites.size();
    const bool call_sites = mode == v1::STACK_MODE_LBR;
    for (size_t i = 0; i <= calls; ++i) {
      const daemon::FrameInfo& frame = *frames[truth.kernel.size() + i];
      const uint64_t call =
          i == 0 ? truth.user_ip : truth.call_sites[i - 1] + (call_sites ? 0 : kCallBytes);
      EXPECT_EQ(frame.ip, call);
      EXPECT_EQ(frame.symbol, truth.program->function(truth.functions[i]).name);
      ASSERT_NE(frame.binary, nullptr);
      EXPECT_EQ(frame.binary->path.rfind("/[simulated]/", 0), 0u) << frame.binary->path;
    }
    if (calls == truth.call_sites.size() && calls > 0 &&
        sample.stack->verdict.reason != unwind::StackReason::kCallsDoNotChain) {
      ++complete;
      EXPECT_EQ(sample.stack->verdict.state, unwind::StackState::kComplete)
          << unwind::StackReasonName(sample.stack->verdict.reason);
    }
  }
  EXPECT_GT(whole, 1000u);
  EXPECT_GT(complete, 1000u);
  EXPECT_LT(missing, samples.size() / 10);
  // The simulated programs make many of their tail calls by a pointer.
  EXPECT_LT(doubted, samples.size() / 4);
  RecordProperty("samples", static_cast<int>(samples.size()));
  RecordProperty("whole", static_cast<int>(whole));
}

INSTANTIATE_TEST_SUITE_P(Modes, PipelineOnSim,
                         ::testing::Values(v1::STACK_MODE_LBR, v1::STACK_MODE_KERNEL_DEFERRED,
                                           v1::STACK_MODE_DWARF, v1::STACK_MODE_FRAME_POINTER),
                         [](const auto& param) { return v1::StackMode_Name(param.param); });

}  // namespace
}  // namespace lbrd::sim
