// Why a use of scarce hardware does not fit, as a person wants to read it: what is taken, who holds
// it, and what to do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pmu/task_uses.h"

namespace lbrd::pmu {

// One who holds what is wanted.
struct ResourceHolder {
  std::string name;
  std::optional<TaskId> task;  // nullopt: the CPU itself
  int32_t cpu = kEveryCpu;
  int32_t slots = 0;
  uint64_t filter = 0;  // LBR
};

// What stands in a use's way, on one CPU.
struct Obstacle {
  // Holders that are named; more are counted.
  static constexpr size_t kMaxNamed = 4;

  int32_t cpu = 0;
  std::vector<ResourceHolder> holders;  // one entry for each (name, task, CPU, filter)
  size_t unnamed = 0;                   // uses of holders beyond kMaxNamed
  bool table_full = false;              // nobody's fault: the account itself is full
};

struct RefusedUse {
  Resource resource = Resource::kBreakpoints;
  std::optional<TaskId> task;
  int32_t cpu = kEveryCpu;
  int32_t slots = 1;
  int32_t slots_of_cpu = 0;
  uint64_t filter = 0;
};

// One line.
std::string ExplainObstacle(const RefusedUse& refused, const Obstacle& obstacle);

}  // namespace lbrd::pmu
