// What a session samples.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pmu/ownership.h"

namespace lbrd::pmu {

// At most one of pid, tid, cgroup and uid; none: the machine. `cpus` goes with the machine, a
// cgroup and a user.
struct EventTarget {
  // A process with its threads, and what they fork.
  std::optional<int32_t> pid;
  // With pid: count nothing until the process executes a program.
  bool enable_on_exec = false;
  // One thread and nothing that it starts.
  std::optional<int32_t> tid;
  // A cgroup's folder, or its path below the cgroup file systems (see ResolveCgroup).
  std::string cgroup;
  // The processes of a user.
  std::optional<uint32_t> uid;
  // Ascending; empty: all, also those that come online later.
  std::vector<int32_t> cpus;
  // Of whom the asker may see something; empty: of everybody. With uid, what others do is left out
  // of the samples (pmu/owner_filter.h); with pid, what turned another's before it could be opened.
  // (The kernel takes events away from a process that executes a program with other rights.)
  OwnershipOf ownership_of;
};

}  // namespace lbrd::pmu
