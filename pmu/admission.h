// Who may use the hardware that there is little of: LBR branch filters, general counters, hardware
// breakpoints. A use is granted if it fits beside all that is granted already, or refused with the
// names of those who are in the way.
//
// What fits: two uses meet where both can be on the hardware at once, that is on one CPU, unless
// they are of two different tasks. Where uses meet,
//   - LBR: all must have the same branch filter, and then any number fits;
//   - counters and breakpoints: their slots must not be more than the CPU has.
// For breakpoints this is exactly the kernel's own rule, so that what is granted here never fails
// there with ENOSPC, unless somebody outside (a debugger, perf) holds breakpoints as well.
//
// Scaling: uses of different tasks do not wait for each other. A use of a task takes the mutex of
// the task's shard and then the semaphore for reading, which is a few ns and touches nothing
// shared; it reads the CPUs' counters and counts itself in those of the tasks, which are atomics. A
// use of CPUs takes the semaphore for writing: then nobody counts, and the tasks' counters can be
// read. The cost of a use of a task does not grow with the number of CPUs or tasks.
//
// Lock order: Shard::mutex, then sem_; nothing is taken inside. Changing a shard needs both, so
// holding sem_ for writing is enough to read all shards.
//
// Memory: at most kMaxTaskUses + kMaxCpuUses uses, of 56 bytes and a holder's name (at most
// kMaxHolderBytes) each, four at least for each task, and 82 bytes of table a task: below 56 MiB
// when full, and then uses are refused. 392 bytes for each CPU.
//
// Thread rules: thread-safe. Outlives its grants.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "pmu/admission_limits.h"
#include "pmu/admission_refusal.h"
#include "pmu/filter_account.h"
#include "pmu/percpu_rwsem.h"
#include "pmu/slot_account.h"
#include "pmu/task_uses.h"

namespace lbrd::pmu {

struct AdmissionRequest {
  Resource resource = Resource::kBreakpoints;
  std::optional<TaskId> task;  // nullopt: the CPU itself, whatever runs there
  int32_t cpu = kEveryCpu;
  int32_t slots = 1;    // LBR: always 1
  uint64_t filter = 0;  // LBR: perf_event_attr's branch_sample_type
  // Where it does not fit, take turns on the hardware. Breakpoints cannot.
  bool allow_multiplex = false;
  std::string holder;  // for people: the name of a session
};

class Admission {
 public:
  static constexpr size_t kMaxTaskUses = 131'072;  // an equal part of it in each shard
  static constexpr size_t kMaxCpuUses = 8'192;     // one of every CPU is one
  static constexpr size_t kMaxHolderBytes = 64;    // what is longer is cut

  class Grant;

  explicit Admission(const AdmissionLimits& limits);
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;
  ~Admission();

  // kResourceExhausted: it does not fit; the message names the holders and says what to do.
  // kInvalidArgument: no such CPU, task or number of slots.
  absl::StatusOr<Grant> Admit(AdmissionRequest request);

  struct Figures {
    uint64_t task_uses = 0;
    uint64_t tasks = 0;  // that have uses
    uint64_t cpu_uses = 0;
    bool counters_zero = true;
  };
  // All at one moment. Stops admissions meanwhile: for tests and reports.
  Figures figures() const;

 private:
  static constexpr size_t kShards = 64;

  // Two cache lines, since processors fetch lines in pairs.
  struct alignas(128) Shard {
    mutable absl::Mutex mutex;
    absl::flat_hash_map<TaskId, TaskUses> tasks ABSL_GUARDED_BY(mutex);
    size_t uses ABSL_GUARDED_BY(mutex) = 0;
    uint64_t next_id ABSL_GUARDED_BY(mutex) = 1;
  };

  // What becomes of a use: the id it was counted in under, or what stands in its way.
  struct Decision {
    uint64_t id = 0;  // 0: refused
    std::optional<Obstacle> obstacle;
  };

  absl::Status Check(const AdmissionRequest& request) const;
  Shard& ShardOf(const TaskId& task) const;
  ResourceAccount& Account(Resource resource) const ABSL_SHARED_LOCKS_REQUIRED(sem_) {
    return *accounts_[static_cast<size_t>(resource)];
  }

  Decision AdmitTask(const AdmissionRequest& request, Use* use);
  Decision DecideTask(const AdmissionRequest& request, Shard& shard, Use* use)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) ABSL_SHARED_LOCKS_REQUIRED(sem_);
  Decision AdmitCpu(const AdmissionRequest& request, Use* use);
  Obstacle TaskObstacle(const AdmissionRequest& request, const TaskUses& own, const Use& wanted,
                        int32_t cpu) const ABSL_SHARED_LOCKS_REQUIRED(sem_);
  Obstacle CpuObstacle(const Use& wanted, int32_t cpu) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(sem_);
  void AddHolder(const Use& held, std::optional<TaskId> task, Obstacle* obstacle) const
      ABSL_SHARED_LOCKS_REQUIRED(sem_);
  void AddTaskHolders(const Use& wanted, int32_t cpu, Obstacle* obstacle) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(sem_);

  void Release(const std::optional<TaskId>& task, uint64_t id);

  const AdmissionLimits limits_;
  mutable PercpuRwSem sem_;
  FilterAccount lbr_ ABSL_GUARDED_BY(sem_);
  SlotAccount counters_ ABSL_GUARDED_BY(sem_);
  SlotAccount breakpoints_ ABSL_GUARDED_BY(sem_);
  const std::array<ResourceAccount*, kResources> accounts_;  // these, by Resource
  std::map<uint64_t, Use> cpu_uses_ ABSL_GUARDED_BY(sem_);   // the oldest first
  uint64_t next_cpu_id_ ABSL_GUARDED_BY(sem_) = 1;
  const std::unique_ptr<Shard[]> shards_;
};

// A use that was granted; the destructor gives it back. Give back only what the kernel no longer
// holds: close first.
class Admission::Grant {
 public:
  Grant() = default;
  Grant(Grant&& other) noexcept { *this = std::move(other); }
  Grant& operator=(Grant&& other) noexcept;
  ~Grant() { Release(); }

  void Release();
  explicit operator bool() const { return admission_ != nullptr; }
  // It does not fit and was granted all the same, to take turns: with whom, as a refusal would say.
  // Empty: it fits.
  const std::string& time_shared() const { return time_shared_; }

 private:
  friend class Admission;
  Admission* admission_ = nullptr;  // nullptr: nothing is held
  std::optional<TaskId> task_;
  uint64_t id_ = 0;
  std::string time_shared_;
};

}  // namespace lbrd::pmu
