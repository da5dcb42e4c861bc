// Which samples of a flow are a session's, as far as the reader can tell: by CPU, thread, process
// tree and user. (By name: the workers can, daemon/sample_share.h.)
//
// A process tree is the process and what its members fork from when it is followed on, told by FORK
// records, which the reader sees in time order with the samples: a child is a member from its birth
// on. A pid that is given out again to a stranger stops being a member with the stranger's FORK.
//
// Memory: 4 bytes a pid that was ever a member, at most pid_max of them.
// Thread rules: one thread (the reader).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "pmu/ownership.h"
#include "pmu/record.h"

namespace lbrd::daemon {

// A user who may see own processes only.
struct Viewer {
  uint32_t uid = 0;
  pmu::OwnershipOf ownership_of;  // of that user
};

// What a session wants of a flow's samples; what is unset is not asked about.
struct FilterSpec {
  std::optional<int32_t> process;
  std::optional<int32_t> thread;
  std::optional<uint32_t> uid;
  std::vector<int32_t> cpus;  // ascending; empty: all
  std::string comm;           // of the thread, as the kernel cuts it; empty: any
  // Asked by the flow, of what the rest lets through (pmu/owner_filter.h). `uid` is set too then:
  // it costs one look at a process for all users, and lets few through.
  std::optional<Viewer> viewer;
};

// Why a sample is not the session's.
enum class LeftOut : uint8_t { kNot, kOtherCpu, kOtherThread, kOtherProcess, kOtherUser };

class SessionFilter {
 public:
  explicit SessionFilter(FilterSpec spec);

  const FilterSpec& spec() const { return spec_; }
  // `uid`: of the sample's process, where the filter asks for one.
  LeftOut Judge(const pmu::SampleId& who, std::optional<uint32_t> uid) const;
  void Forked(int32_t pid, int32_t parent_pid);

 private:
  const FilterSpec spec_;
  absl::flat_hash_set<int32_t> tree_;  // of spec_.process
};

}  // namespace lbrd::daemon
