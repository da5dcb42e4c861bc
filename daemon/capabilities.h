// What lbrd.v1's GetCapabilities answers: pmu's probes, the kernel's names, and what follows for
// the stacks of sessions.
//
// Thread rules: thread-safe. Experiments are made one at a time, so a second client that asks for
// them waits for the first one's (2 s at most).
#pragma once

#include "absl/synchronization/mutex.h"
#include "lbrd/v1/profiler.pb.h"
#include "pmu/kernel.h"
#include "pmu/probe.h"
#include "pmu/switching_child.h"

namespace lbrd::daemon {

class MachineCapabilities {
 public:
  // Borrows the kernel. `start_child`: of the LBR experiment.
  MachineCapabilities(pmu::Kernel* kernel, pmu::StartSwitchingChild start_child)
      : kernel_(*kernel), start_child_(std::move(start_child)) {}

  void Describe(bool run_experiments, v1::Capabilities* out);

 private:
  pmu::Kernel& kernel_;
  const pmu::StartSwitchingChild start_child_;
  absl::Mutex experiment_;  // held while one is made; a leaf
};

// Which user stacks sessions get on this machine, and why: a paragraph.
std::string DescribeStacks(const pmu::MachineProbes& found);

}  // namespace lbrd::daemon
