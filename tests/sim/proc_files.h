// The files of /proc and /sys that pmu/ and daemon/ read, as text of the simulated machine:
//
//     /proc/PID/{maps,comm,status,stat,cgroup,cmdline},
//     /proc/PID/task/TID/{comm,status,stat,children}
//     /proc/sys/kernel/{perf_event_*,pid_max,osrelease,kptr_restrict}, /proc/kallsyms,
//     /proc/version /sys/devices/system/cpu/{online,offline,possible,present}
//     /sys/bus/event_source/devices/cpu/{type,caps/branches,caps/pmu_name}, where there is a PMU
//
// Pure: a function of machine and options. Errors: ENOENT.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/sim/machine.h"
#include "tests/sim/perf_options.h"

namespace lbrd::sim {

absl::StatusOr<std::string> ReadProcFile(Machine& machine, const PerfOptions& options,
                                         const std::string& path);
absl::StatusOr<std::vector<int32_t>> ListProcNumbers(Machine& machine, const std::string& folder);

}  // namespace lbrd::sim
