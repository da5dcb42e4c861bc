// Events on CPUs: for the machine, a list of CPUs, a cgroup, or (with the samples of others left
// out by whoever reads) a user.
//
// The intent is what counts: every wanted CPU has an event, or a gap that says since when not. A
// CPU that is offline (ENODEV) is tried again when it is online. One that went offline has its
// event retired: what it counted stays counted, what is in its ring is still handed out. Online
// again it gets a new event under the same roots. Every look takes one step per CPU, so any
// sequence of these ends; what cannot be opened stays a gap, with a note that says why.
//
// Nobody told of what was forked, executed or mapped on a CPU before its new event: after that
// /proc is asked of every process, at most once a second.
//
// A CPU that was away between two looks is found by its side-band event, whose time_enabled stands
// still although it is enabled: one read (an interrupt of that CPU) a second and CPU, and two when
// the session ends.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "pmu/cpu_watch.h"
#include "pmu/event_target.h"
#include "pmu/installer.h"
#include "pmu/target_events.h"

namespace lbrd::pmu {

// The descriptor of a cgroup's folder, to be closed by the caller. `path` is the folder itself, or
// a path below the file systems that perf knows: the unified one (v2), or v1's perf_event.
// kNotFound: where it was looked for.
absl::StatusOr<int> ResolveCgroup(Kernel& kernel, const std::string& path);

class CpuTarget : public TargetEvents {
 public:
  static constexpr uint64_t kLivenessNs = 1'000'000'000;
  static constexpr uint64_t kScanNs = 1'000'000'000;

  // Borrows the installer.
  CpuTarget(Installer* installer, const EventTarget& target, uint64_t ring_bytes)
      : installer_(*installer),
        wanted_(target.cpus),
        cgroup_(target.cgroup),
        ring_bytes_(ring_bytes) {}
  ~CpuTarget() override;

  absl::Status Open() override;
  size_t cpus() const override { return places_.size(); }
  void Started(uint64_t now) override;
  void Follow(uint64_t now, RecordWriter* made) override;
  void Want(std::vector<int32_t> cpus) override;
  bool settled() const override { return settled_; }
  void Finishing() override;
  void HungUp(Ring*) override { watch_.Hasten(); }
  std::vector<std::string> notes() const override;
  void DescribeGaps(SourceStats* out) const override { gaps_.Describe(out); }
  uint64_t gaps_ended() const override { return gaps_.ended(); }

 private:
  struct Place {
    Installed installed;
    // The records' clock when time_enabled was 0, as it is counted: corrected at each look, since
    // the two clocks drift apart (NTP slews one of them only).
    uint64_t enabled_at = 0;
    uint64_t last_enabled_ns = 0;  // what the side-band event said at the last look
    uint64_t last_enabled_at = 0;  // as enabled_at, by that look: true if it was alive then
    bool looked = false;
  };

  bool Wanted(int32_t cpu) const;
  absl::Status Install(int32_t cpu);
  void Retire(int32_t cpu);
  // Events on the CPUs that are wanted since Want(), and on no others.
  void Settle(uint64_t now, const std::vector<int32_t>& online);
  // Whether the kernel has taken the event off its CPU.
  bool Dead(Place* place);
  void Note(int32_t cpu, absl::string_view why);

  Installer& installer_;
  std::vector<int32_t> wanted_;  // empty: all
  bool settled_ = true;
  const std::string cgroup_;
  const uint64_t ring_bytes_;
  int cgroup_fd_ = -1;
  std::map<int32_t, Place> places_;
  struct Away {
    bool gap = false;   // one has begun
    bool told = false;  // why it is not sampled although it is online
  };
  std::map<int32_t, Away> away_;      // wanted CPUs without events
  std::vector<int32_t> not_counted_;  // hybrid: CPUs that have no such event
  uint64_t last_look_ = 0;            // 0: not started
  uint64_t next_liveness_ = 0;
  bool scan_due_ = false;  // a CPU came back, and /proc was not asked since
  uint64_t next_scan_ = 0;
  CpuWatch watch_;
  GapLog gaps_;

  mutable absl::Mutex mutex_;
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);  // at most kMaxGaps
};

}  // namespace lbrd::pmu
