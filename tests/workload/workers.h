#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "tests/workload/cpu_quota.h"

namespace demo {

// One function that uses CPU time, and how much of it per round.
struct FunctionShare {
  const char* name;     // for people
  const char* pattern;  // regular expression, to be searched in the demangled symbol
  const char* callers;  // from the thread's first function to this one's caller, outermost first
  int64_t quota_ns;     // per round
};

inline constexpr size_t kMaxFunctions = 4;

struct Worker;

// A kind of worker thread: what it is called and what a round of it consists of. All kinds use the
// same CPU time per round, so that every thread is always busy.
struct WorkerKind {
  const char* thread_name;
  std::span<const FunctionShare> functions;
  void (*round)(Worker& worker);
};

inline constexpr int64_t kRoundNs = 5'000'000;
inline constexpr int kDescendDepth = 60;

std::span<const WorkerKind> WorkerKinds();

// What one worker thread owns. Worker i is of kind i modulo the number of kinds.
struct Worker {
  int index = 0;
  const WorkerKind* kind = nullptr;
  std::array<CpuQuota, kMaxFunctions> quotas;  // one per function of the kind
  uint64_t state = 1;  // what the work works on; keeps it from being optimized away
};

Worker MakeWorker(int index);
// The kind's thread name; from the second worker of a kind on with a number.
std::string ThreadName(const Worker& worker);

// Called on the worker's thread before its first and after its last round. False: the kernel
// refused what it needs.
bool EnterThread(Worker& worker);
void LeaveThread(Worker& worker);

}  // namespace demo
