// Events on a process: one per (thread, CPU), inherited by the kernel to whatever its threads fork.
//
// Threads are born while events are being opened, so the process's threads are listed again until a
// list holds no stranger. A stranger is a thread without a slot; a slot is taken before anything is
// opened for it, so nothing is opened twice. A thread that certainly inherited all of its parent's
// events has a slot for that alone: its birth was told (PERF_RECORD_FORK) kSurelyInheritedNs or
// more after they were complete. Of any other stranger it cannot be known whether it inherited none
// of them, some, or all, so it gets its own: a thread may be sampled twice, and never not at all.
//
// What both events then tell of such a thread, and of its descendants, is left out again. Records
// cannot say which event wrote them (several software events that hit at once all carry the id of
// the first: seen on Linux 6.18), rings can: threads that are opened after the same list, none of
// which can have inherited from another of them, are a generation, and each generation has its own
// rings. Samples of a thread count from the rings of its generation, and that of a thread that only
// inherited is its parent's.
//
// Bounds: kMaxEnumerations lists, 10 ms apart from the third on, which is longer than births take
// to become certain; beyond them an error says so. A list that holds strangers costs a further ring
// per CPU. Per thread that was opened or told of: 48 bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "pmu/event_target.h"
#include "pmu/installer.h"
#include "pmu/target_events.h"

namespace lbrd::pmu {

class TaskTarget : public TargetEvents {
 public:
  static constexpr int kMaxEnumerations = 16;
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
  size_t cpus() const override { return generations_.empty() ? 0 : generations_[0].size(); }
  // A thread's time goes on for its events on all CPUs, and they run on one at a time.
  size_t events_per_clock() const override { return cpus(); }
  Verdict See(const RawRecord& record, const Ring* ring) override;

  // Gives everything back: what follows thread by thread begins anew.
  void Abandon();
  // Whether Open() failed for want of descriptors: following thread by thread needs fewer.
  bool needs_fewer_descriptors() const { return needs_fewer_descriptors_; }
  size_t threads_found() const { return threads_found_; }
  size_t cpus_wanted() const { return cpus_.size(); }

 private:
  struct Slot {
    size_t generation = 0;     // whose rings count it
    bool opened = false;       // it has events of its own
    uint64_t complete_at = 0;  // when the last of the events that count it was open
  };
  // The events whose rings those of the generation share, by CPU.
  using Generation = std::map<int32_t, Installed>;

  absl::Status OpenThread(int32_t tid);
  // Gives slots to threads that surely inherited the events of a thread that has one.
  void TakeBirths();

  Installer& installer_;
  const int32_t pid_;
  const bool enable_on_exec_;
  const uint64_t ring_bytes_;
  std::vector<int32_t> cpus_;
  std::vector<Generation> generations_;
  absl::flat_hash_map<const Ring*, size_t> generation_of_;
  absl::flat_hash_map<int32_t, Slot> slots_;
  bool needs_fewer_descriptors_ = false;
  size_t threads_found_ = 0;
};

}  // namespace lbrd::pmu
