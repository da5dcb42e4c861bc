// Events on a process: one per (thread, CPU), inherited by the kernel to whatever its threads fork.
//
// Threads are born while events are being opened, so the process's threads are listed again until a
// list holds no stranger. A stranger is a thread without a slot; a slot is taken before anything is
// opened for it, so nothing is opened twice. A thread that certainly inherited all of its parent's
// events has a slot for that alone: its birth was told (PERF_RECORD_FORK) kSurelyInheritedNs or
// more after they were complete. Of any other stranger it cannot be known whether it inherited none
// of them, some, or all, so it gets its own: a thread may be sampled twice, and never not at all.
// What the two events then both tell of such a thread, and of its descendants, is left out again by
// id: samples of a thread count from the events of its nearest ancestor with events of its own.
//
// Bounds: kMaxEnumerations lists, from the eighth on 10 ms apart; beyond them an error says so. Per
// thread that was opened or told of: 48 bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "pmu/event_target.h"
#include "pmu/installer.h"
#include "pmu/target_events.h"

namespace lbrd::pmu {

class TaskTarget : public TargetEvents {
 public:
  static constexpr int kMaxEnumerations = 64;
  // Between inheriting and telling of it, clone(2) does not sleep; this is how long it may be
  // preempted in between.
  static constexpr uint64_t kSurelyInheritedNs = 100'000'000;

  // Borrows the installer.
  TaskTarget(Installer* installer, const EventTarget& target, uint64_t ring_bytes)
      : installer_(*installer),
        pid_(*target.pid),
        enable_on_exec_(target.enable_on_exec),
        ring_bytes_(ring_bytes) {}

  absl::Status Open() override;
  size_t cpus() const override { return places_.size(); }
  // A thread's time goes on for its events on all CPUs, and they run on one at a time.
  size_t events_per_clock() const override { return places_.size(); }
  Verdict See(const RawRecord& record) override;

  // Gives everything back: what follows thread by thread begins anew.
  void Abandon();
  // Whether Open() failed for want of descriptors: following thread by thread needs fewer.
  bool needs_fewer_descriptors() const { return needs_fewer_descriptors_; }
  size_t threads_found() const { return threads_found_; }
  size_t cpus_wanted() const { return cpus_.size(); }

 private:
  struct Slot {
    int32_t events_of = 0;     // the thread whose events count it: itself, or an ancestor
    uint64_t complete_at = 0;  // when the last of them was open
  };

  absl::Status OpenThread(int32_t tid);
  // Gives slots to threads that surely inherited the events of a thread that has one.
  void TakeBirths();

  Installer& installer_;
  const int32_t pid_;
  const bool enable_on_exec_;
  const uint64_t ring_bytes_;
  std::vector<int32_t> cpus_;
  std::map<int32_t, Installed> places_;  // the events whose ring it is, by CPU
  absl::flat_hash_map<int32_t, Slot> slots_;
  // Sampling events' ids -> the thread they were opened for; filled once a thread may be told
  // twice.
  absl::flat_hash_map<uint64_t, int32_t> thread_of_id_;
  std::vector<std::pair<int32_t, std::shared_ptr<Event>>> opened_;
  bool may_duplicate_ = false;
  bool needs_fewer_descriptors_ = false;
  size_t threads_found_ = 0;
};

}  // namespace lbrd::pmu
