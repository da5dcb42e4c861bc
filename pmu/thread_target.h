// Events on threads, one set per thread on any CPU: for a single thread, and for a process where
// one per (thread, CPU) would need too many descriptors.
//
// Nothing is inherited by the kernel. A thread's forks are told by its side-band event
// (PERF_RECORD_FORK), and the child gets events of its own then, as children in the same tree.
// Whoever is taken up is published first (a slot, and an enabled side-band event) and then looked
// at: the threads of its process and the children of its threads are listed until a list holds no
// stranger, so what was born between its birth and its events is found as well. What ended before
// it could be taken up is counted.
//
// Bounds: kMaxThreads threads at once, or a quarter of the descriptors that there may be; those
// beyond are counted and told. A ring of kThreadRingBytes a thread (1 GiB at most in all); one of
// the asked size for a single thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "pmu/event_target.h"
#include "pmu/installer.h"
#include "pmu/target_events.h"

namespace lbrd::pmu {

class ThreadTarget : public TargetEvents {
 public:
  static constexpr uint64_t kThreadRingBytes = uint64_t{128} << 10;
  static constexpr uint64_t kMaxThreads = 8192;
  // Lists of threads and children per call of Follow(); what is left is for the next one.
  static constexpr int kMaxEnumerations = 64;

  // Of target.tid alone, or of target.pid and what it forks; `why` says why not by the kernel's
  // inheritance. Borrows the installer.
  ThreadTarget(Installer* installer, const EventTarget& target, uint64_t ring_bytes,
               std::string why);

  absl::Status Open() override;
  size_t cpus() const override { return cpus_; }
  // A thread's time goes on for its events of all core types, and they run on one at a time.
  size_t events_per_clock() const override {
    return installer_.core_types().OnAnyCpu(installer_.events()[kSamplingEvent].attr).size();
  }
  void Started(uint64_t now) override;
  Verdict See(const RawRecord& record, const Ring* ring) override;
  void Follow(uint64_t now, RecordWriter* made) override;
  void HungUp(Ring* ring) override;
  bool gone() const override { return gone_; }
  std::vector<std::string> notes() const override;

 private:
  // False: it ended, or there is no room for it.
  absl::StatusOr<bool> TakeUp(int32_t tid);
  // Takes up all threads of a process, and notes the processes that they forked.
  absl::Status TakeUpProcess(int32_t pid, bool* news);
  void LetGo(int32_t tid);
  uint64_t Bound() const;

  Installer& installer_;
  const int32_t first_;  // process or thread
  const bool follow_;    // what it forks
  const bool enable_on_exec_;
  const uint64_t ring_bytes_;
  const std::string why_;
  size_t cpus_ = 0;
  bool started_ = false;
  struct Slot {
    Installed installed;
    uint64_t taken_up_at = 0;  // the records' clock
  };
  struct ToList {
    bool is_new = false;        // the process, to this session
    std::vector<int32_t> born;  // threads whose birth was told
  };
  absl::flat_hash_map<int32_t, Slot> slots_;
  absl::flat_hash_map<int32_t, ToList> to_list_;  // by process
  absl::flat_hash_set<int32_t> known_processes_;
  absl::flat_hash_set<int32_t> without_room_;
  const OwnershipOf ownership_of_;         // empty: everything may be seen
  absl::flat_hash_set<int32_t> not_ours_;  // threads that turned out to be another user's
  std::vector<int32_t> ended_;  // by their EXIT record or hang-up; let go when no record is held
  std::atomic<bool> gone_ = false;
  std::atomic<uint64_t> taken_up_ = 0;
  std::atomic<uint64_t> missed_ = 0;
  std::atomic<uint64_t> refused_ = 0;
};

}  // namespace lbrd::pmu
