// What this machine really does, found by trying: each probe opens, maps or reads the thing itself
// and tells what came of it, with the evidence, and what to do where it is not as it should be.
//
// Everything opened is closed again before the function returns. Without the experiment it takes
// some 30 system calls; with it 2 s at most (lbr_survival.h), and one look at each process.
//
// Thread rules: any thread; two experiments at once on one CPU would disturb each other.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pmu/kernel.h"
#include "pmu/lbr_survival.h"
#include "pmu/stack_source.h"
#include "pmu/switching_child.h"

namespace lbrd::pmu {

enum class ProbeVerdict : uint8_t {
  kOk,
  kDegraded,  // works, but less well than elsewhere
  kMissing,   // is not here
  kNotTried,  // there is nothing to try it on, or it is an experiment that was not asked for
};

struct Probe {
  std::string name;  // a word for people and programs: "lbr-over-switches"
  ProbeVerdict verdict = ProbeVerdict::kOk;
  std::string value;       // what was found, in a few words
  std::string why;         // the evidence: what was tried, and what the kernel said
  std::string action;      // what to do; empty: nothing, or nothing can be done
  bool essential = false;  // without it no session can be started
};

struct MachineProbes {
  std::vector<Probe> probes;
  // What a session without wishes is given, as ChooseEvent says.
  absl::StatusOr<ChosenEvent> chosen = absl::UnknownError("not tried");
  uint32_t lbr_depth = 0;                   // 0: no LBR call stacks, or not known
  std::optional<LbrSurvival> lbr_survival;  // of the experiment, where it could be made
};

// `start_child` makes the child of the LBR experiment; null: no experiments.
MachineProbes ProbeMachine(Kernel& kernel, const StartSwitchingChild& start_child);

// Branch entries of the hardware; 0: there are none, or the kernel does not tell.
uint32_t LbrDepth(Kernel& kernel);

}  // namespace lbrd::pmu
