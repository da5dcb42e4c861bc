// Probes of what the administrator allows: sysctls, limits and capabilities.
#pragma once

#include "pmu/kernel.h"
#include "pmu/probe.h"

namespace lbrd::pmu {

// kernel.perf_event_paranoid, in the light of whether events could be opened.
Probe ProbeParanoid(Kernel& kernel, bool events_open);

// Whether rings of the default size can be had on every CPU: one is mapped on `cpu`, and the limits
// are held against the rest.
Probe ProbeRingMemory(Kernel& kernel, int32_t cpu, size_t cpus);

// kernel.perf_event_max_stack, against the frames that lbrd asks for.
Probe ProbeChainDepth(Kernel& kernel);

// Whether the kernel's own watchdog keeps a counter of each CPU. `short_of_counters`: an event was
// seen to get less than its whole time, though nobody else was seen to sample.
Probe ProbeNmiWatchdog(Kernel& kernel, bool has_pmu, bool short_of_counters);

}  // namespace lbrd::pmu
