// What task contexts cost, beside what they could be built on, in one run.
//
// Costs of single operations: ways are measured in turns, in batches short enough that most are not
// interrupted, and a way's figure is the lower quartile of its batches, those that the rest of the
// machine disturbed least. Waits: every single one is measured, and the percentiles are of all,
// disturbed or not.
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "pmu/percpu_rwsem.h"
#include "tests/bench/context_tables.h"
#include "tests/bench/lock_tables.h"

namespace lbrd::daemon {
namespace {

// `only`: the one table to print; empty: all.
int Run(bool smoke, const std::string& only) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  LockSettings locks;
  ContextSettings contexts;
  if (smoke) {
    locks = {.batches = 5, .pairs = 100, .writes = 100};
    contexts = {.batches = 5, .tasks = {1'000, 10'000}, .walks = 1, .looked_up_tasks = 1'000};
  }
  std::printf("%u CPUs; membarrier: %s\n", std::thread::hardware_concurrency(),
              pmu::PercpuRwSem().readers_fence() ? "refused" : "yes");
  const std::vector<std::pair<std::string, std::function<void()>>> tables = {
      {"memory",
       [&] { PrintMemory(contexts); }},  // first, while all memory that it is given is new
      {"reads", [&] { PrintReadPairs(locks); }},
      {"writes", [&] { PrintWritePairs(locks); }},
      {"rcu", [&] { PrintRcuFlavours(locks); }},
      {"forks", [&] { PrintForks(contexts); }},
      {"look-ups",
       [&] {
         // The small one fits into the nearest caches: what the code costs, without the memory.
         PrintLookUps(contexts, 500);
         PrintLookUps(contexts, contexts.looked_up_tasks);
       }},
      {"walks", [&] { PrintWalks(contexts); }},
  };
  bool known = only.empty();
  for (const auto& [name, print] : tables) {
    if (!only.empty() && only != name) continue;
    known = true;
    print();
  }
  if (known) return 0;
  std::fprintf(stderr, "usage: context_bench [--smoke | TABLE]\nTABLE: one of");
  for (const auto& [name, print] : tables) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "; without it all, in one run\n");
  return 2;
}

}  // namespace
}  // namespace lbrd::daemon

int main(int argc, char** argv) {
  const bool smoke = argc == 2 && std::strcmp(argv[1], "--smoke") == 0;
  if (argc > 2) {
    std::fprintf(stderr, "context_bench: one argument at most\n");
    return 2;
  }
  return lbrd::daemon::Run(smoke, argc == 2 && !smoke ? argv[1] : "");
}
