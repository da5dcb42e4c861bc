// Reads a pmu::EventSet on a SimKernel and holds every record against the truth.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pmu/event_set.h"
#include "pmu/stack_source.h"
#include "tests/sim/sim_kernel.h"

namespace lbrd::sim {

inline constexpr uint64_t kRing = 256 << 10;
inline constexpr uint64_t kMs = 1'000'000;

// Everything that a set hands out, checked as it comes.
struct Seen {
  uint64_t samples = 0;
  uint64_t with_truth = 0;
  uint64_t stacks_checked = 0;
  uint64_t made = 0;  // records that the set made itself
  std::map<uint32_t, uint64_t> by_type;
  std::set<int32_t> forked;  // tids
  std::set<int32_t> exited;
  std::map<std::pair<int32_t, uint64_t>, std::vector<uint64_t>> answers;  // by tid and cookie
  std::vector<std::shared_ptr<const Truth>> deferred;                     // that have a cookie
  std::set<uint64_t> hw_indices;
  uint64_t last_time = 0;
  uint64_t out_of_order = 0;
};

struct SetReader {
  SimKernel* sim;
  pmu::EventSet* set;
  pmu::StackSource source;
  bool lbr_always_true = true;
  Seen seen;

  void CheckStack(const pmu::SampleRecord& sample, const Truth& truth) {
    EXPECT_EQ(sample.cpumode == PERF_RECORD_MISC_KERNEL, truth.in_kernel);
    EXPECT_EQ(sample.ip, truth.in_kernel ? truth.kernel.front() : truth.user_ip);
    std::vector<uint64_t> kernel;
    std::vector<uint64_t> user;
    uint64_t cookie = 0;
    uint64_t context = 0;
    for (const uint64_t ip : sample.callchain) {
      if (ip >= pmu::kContextMarkers) {
        context = ip;
      } else if (context == static_cast<uint64_t>(PERF_CONTEXT_KERNEL)) {
        kernel.push_back(ip);
      } else if (context == static_cast<uint64_t>(PERF_CONTEXT_USER)) {
        user.push_back(ip);
      } else if (context == pmu::kContextUserDeferred) {
        cookie = ip;
      }
    }
    EXPECT_EQ(kernel, truth.kernel);
    if (!truth.has_user) return;
    ++seen.stacks_checked;
    switch (source) {
      case pmu::StackSource::kFramePointer: {
        std::vector<uint64_t> want = truth.ReturnAddresses();
        want.resize(std::min<size_t>(want.size(), 127 - kernel.size()));
        EXPECT_EQ(user, want);
        break;
      }
      case pmu::StackSource::kKernelDeferred:
        EXPECT_EQ(cookie, truth.cookie);
        EXPECT_NE(cookie, 0u);
        break;
      case pmu::StackSource::kLbr: {
        EXPECT_TRUE(sample.has_branch_stack);
        const auto branches = sample.branch_stack.branches;
        EXPECT_EQ(branches.size(), truth.lbr_entries);
        EXPECT_TRUE(sample.branch_stack.hw_index.has_value());
        seen.hw_indices.insert(sample.branch_stack.hw_index.value_or(12345));
        if (lbr_always_true) {
          EXPECT_TRUE(truth.lbr_true);
        }
        if (!truth.lbr_true) break;
        for (size_t i = 0; i < branches.size(); ++i) {
          EXPECT_EQ(branches[i].from, truth.call_sites[i]);
        }
        break;
      }
      case pmu::StackSource::kDwarf:
        break;
    }
  }

  void Take(const pmu::RawRecord& raw) {
    if (raw.event == pmu::kMadeRecord) {
      EXPECT_TRUE(pmu::DecodeRecord(raw.header, pmu::RecordFormat{}).ok());
      ++seen.made;
      return;
    }
    ++seen.by_type[raw.header->type];
    if (raw.who.time < seen.last_time) ++seen.out_of_order;
    seen.last_time = std::max(seen.last_time, raw.who.time);
    const auto record = pmu::DecodeRecord(raw.header, set->events()[raw.event].format);
    ASSERT_TRUE(record.ok()) << record.status();
    if (const auto* sample = std::get_if<pmu::SampleRecord>(&*record)) {
      ++seen.samples;
      const auto truth = sim->TruthOf(sample->who);
      ASSERT_NE(truth, nullptr);
      ++seen.with_truth;
      EXPECT_TRUE(truth->written);
      CheckStack(*sample, *truth);
      if (truth->cookie != 0) seen.deferred.push_back(truth);
    } else if (const auto* task = std::get_if<pmu::TaskRecord>(&*record)) {
      (task->exit ? seen.exited : seen.forked).insert(task->tid);
    } else if (const auto* answer = std::get_if<pmu::CallchainDeferredRecord>(&*record)) {
      EXPECT_TRUE(seen.answers
                      .emplace(std::pair(answer->who.tid, answer->cookie),
                               std::vector<uint64_t>(answer->ips.begin(), answer->ips.end()))
                      .second)
          << "answered twice";
    }
  }

  // Reads what there is. False: the source has ended.
  bool ReadAll() {
    while (true) {
      pmu::RawRecord raw;
      const auto result = set->Next(&raw);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok() || *result == pmu::ReadResult::kEnd) return false;
      if (*result == pmu::ReadResult::kIdle) return true;
      Take(raw);
    }
  }
  void RunFor(uint64_t ns) {
    const uint64_t end = sim->Now() + ns;
    while (sim->Now() < end && ReadAll()) set->Wait(absl::Milliseconds(100));
    // What came in a round is handed out in the next one but one.
    for (int round = 0; round < 3; ++round) ReadAll();
  }
  void Finish() {
    set->Finish();
    while (ReadAll()) {
    }
  }
};

inline absl::StatusOr<pmu::ChosenEvent> Choose(SimKernel* kernel, const std::string& event,
                                               pmu::StackSource source, uint32_t hz = 999) {
  pmu::EventRequest request;
  request.event = event;
  request.frequency_hz = hz;
  request.best_source = false;
  request.source = source;
  return pmu::ChooseEvent(*kernel, request);
}

inline Behaviour Lively() {
  Behaviour how;
  how.fork = 300;
  how.thread = 500;
  how.exec = 50;
  how.exit = 100;
  how.exit_thread = 500;
  how.map = 1000;
  how.rename = 200;
  return how;
}

inline void Populate(SimKernel* kernel, const Behaviour& how, int processes) {
  kernel->With([&](Machine& machine) {
    SpawnOptions spawn;
    spawn.behaviour = machine.AddBehaviour(how);
    ProgramOptions program;
    for (int i = 0; i < processes; ++i) {
      program.name = "work" + std::to_string(i);
      ASSERT_NE(machine.Spawn(machine.AddProgram(program), spawn), nullptr);
    }
    SpawnOptions threads;
    threads.behaviour = spawn.behaviour;
    machine.SpawnKernelThread("sim:kworker", threads);
  });
}

}  // namespace lbrd::sim
