#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tests/workload/children.h"
#include "tests/workload/workers.h"

namespace demo {

// What `--truth` prints: each function's share, known before anything has run.
std::string TruthJson(int threads, bool with_children);

// What `--report` writes: what the clocks say was used.
std::string ReportJson(std::span<const Worker> workers, int64_t rounds, double wall_seconds,
                       const Children& children);

}  // namespace demo
