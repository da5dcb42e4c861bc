// Who else samples on this machine: processes that have the ring of a perf event mapped.
//
// The kernel does not tell what an event counts, nor who holds LBR; a mapped ring is the most that
// can be seen from outside. Events that are only counted, or read by BPF programs, have none and
// are not seen.
//
// Thread rules: any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pmu/kernel.h"

namespace lbrd::pmu {

struct PerfUser {
  int32_t pid = 0;
  std::string comm;
  uint32_t rings = 0;  // mapped
};

struct PerfUsers {
  std::vector<PerfUser> users;  // without this process, by ascending pid
  bool all_seen = true;         // false: the time was over before all processes were looked at
};

// Reads each process's memory map once, for `limit_ns` at most (a map that is being read is read to
// its end). Processes that may not be read are left out.
PerfUsers FindPerfUsers(Kernel& kernel, uint64_t limit_ns);

}  // namespace lbrd::pmu
