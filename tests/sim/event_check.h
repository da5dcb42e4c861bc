// Which perf_event_attr the simulated kernel takes, and what the event then is: the checks of
// perf_event_open(2) that need nothing but the attr.
//
// Pure. Errors are those of Linux's perf_copy_attr(), perf_event_alloc() and x86_pmu_hw_config().
#pragma once

#include "pmu/abi.h"
#include "tests/sim/event.h"
#include "tests/sim/perf_options.h"

namespace lbrd::sim {

// 0 and *out, or the errno. `of_task`: it counts one task.
int CheckAttr(const perf_event_attr& attr, const PerfOptions& options, bool of_task,
              EventConfig* out);

}  // namespace lbrd::sim
