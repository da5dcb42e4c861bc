// A kernel that does not exist, behind the interface of the one that does: pmu/kernel.h.
//
// A Machine (CPUs, tasks, virtual time) and PerfEvents on it. What runs on LinuxKernel runs on this
// unchanged, on hundreds of CPUs and up to a million tasks, on hardware that is not at hand, and
// what it should have seen is known (Truth). Everything that comes from it is labelled: paths begin
// with "/[simulated]/", names with "sim:", event IDs with "SIM", kernel symbols with "sim_".
//
// Time is virtual and goes on only in calls: Poll() lets it run to the first readable descriptor or
// its time-out, without sleeping; every other call costs `call_ns`, in which the machine goes on;
// Run() lets it run for a while. The same seed and the same calls give the same bytes.
//
// Thread rules: thread-safe. One lock; Poll() gives way to other threads' calls. With calls from
// several threads the history depends on their order.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "pmu/kernel.h"
#include "tests/sim/faults.h"
#include "tests/sim/machine.h"
#include "tests/sim/perf_events.h"
#include "tests/sim/perf_options.h"
#include "tests/sim/truth.h"

namespace lbrd::sim {

struct SimOptions {
  MachineOptions machine;
  PerfOptions perf;
  // Virtual time that a call takes, but for Now(), PageBytes(), Signal() and Poll().
  uint64_t call_ns = 1'000;
  // What is kept of true stacks; 0: nothing.
  size_t truth_bytes = size_t{64} << 20;
};

class SimKernel : public pmu::Kernel {
 public:
  explicit SimKernel(const SimOptions& options);
  ~SimKernel() override;

  // Sets things up, scripts them, or looks: under the kernel's lock. `action` must not call the
  // kernel.
  void With(absl::FunctionRef<void(Machine&)> action);
  void WithFaults(absl::FunctionRef<void(Faults&)> action);
  // Lets `ns` of virtual time pass.
  void Run(uint64_t ns);
  // Lets one thing happen, if one is due within `ns`.
  bool Step(uint64_t ns);

  // What a sample should show; found by its event ID, CPU, time and tid. nullptr: no longer kept.
  std::shared_ptr<const Truth> TruthOf(const pmu::SampleId& who);
  // Called for every sample when it is taken, written or lost; under the lock. Before any event.
  void set_truth_observer(std::function<void(const Truth&)> observer);

  PerfCounts perf_counts();
  MachineCounts machine_counts();
  // What is still open: nothing, when its user has cleaned up.
  size_t open_descriptors();
  size_t open_events();
  size_t mapped_rings();
  bool breakpoint_slots_free();
  // Descriptors closed, or rings unmapped, that were not there.
  uint64_t bad_closes();

  int OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                unsigned long flags = 0) override;
  int OpenPid(int32_t pid) override;
  // There are no cgroups to open.
  int OpenFolder(const std::string&) override { return -ENOENT; }
  int OpenSignal() override;
  void Signal(int fd) override;
  void Close(int fd) override;
  uint64_t DescriptorLimit() override { return options_.perf.max_descriptors; }
  int Control(int fd, unsigned long request, uint64_t argument) override;
  int64_t ReadCounts(int fd, std::span<uint64_t> out) override;
  void* MapRing(int fd, uint64_t data_bytes, int* error) override;
  void UnmapRing(void* ring, uint64_t data_bytes) override;
  int Poll(std::span<pollfd> fds, int timeout_ms) override;
  uint64_t Now() override;
  uint64_t PageBytes() override { return kSimPageBytes; }
  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) override;
  absl::StatusOr<std::vector<int32_t>> ListNumbers(const std::string& folder) override;
  // No file of it is executed.
  absl::StatusOr<std::string> ReadLink(const std::string& path) override;

 private:
  struct Descriptor {
    Event* event = nullptr;
    int32_t pid = 0;          // of a process descriptor
    uint32_t pid_serial = 0;  // the pid may be used again
    bool signal = false;
    uint64_t signalled = 0;
  };
  // Takes the lock, letting a Poll() that holds it know.
  class ABSL_SCOPED_LOCKABLE Lock {
   public:
    explicit Lock(SimKernel* kernel) ABSL_EXCLUSIVE_LOCK_FUNCTION(kernel->mutex_);
    ~Lock() ABSL_UNLOCK_FUNCTION();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    SimKernel* const kernel_;
  };

  // A call begins: its time passes, and it may be made to fail.
  int Begin(Call call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Descriptor* Find(int fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The lowest free number, as in any process; or -EMFILE.
  int Install(const Descriptor& descriptor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int Ready(std::span<pollfd> fds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ProcessGone(const Descriptor& descriptor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SimOptions options_;
  absl::Mutex mutex_;
  std::atomic<int> waiting_ = 0;  // threads that want the lock
  Machine machine_ ABSL_GUARDED_BY(mutex_);
  PerfEvents perf_ ABSL_GUARDED_BY(mutex_);
  Faults faults_ ABSL_GUARDED_BY(mutex_);
  TruthWindow truths_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const Truth&)> truth_observer_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<int, Descriptor> descriptors_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> free_fds_ ABSL_GUARDED_BY(mutex_);  // a heap, lowest first
  int next_fd_ ABSL_GUARDED_BY(mutex_) = 3;
  uint64_t signals_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t bad_closes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lbrd::sim
