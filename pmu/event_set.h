// A session's events on the kernel: opened on every CPU or on every thread of a process, one ring
// per CPU, read as a RecordSource in time order.
//
// On each CPU two kinds of event share the ring: the sampling event, and a dummy that carries
// mappings, names, forks and exits. They are apart so that each one's losses are known exactly
// (read_format LOST). Everything is opened disabled; Start() enables.
//
// Memory: ring_bytes per CPU, pinned by the kernel, plus 64 KiB per ring that had to wrap.
// Thread rules: as RecordSource. Descriptors and rings are given back by the destructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "pmu/kernel.h"
#include "pmu/record_source.h"
#include "pmu/ring.h"
#include "pmu/ring_order.h"
#include "pmu/stack_source.h"

namespace lbrd::pmu {

// What is sampled.
struct EventTarget {
  // A process with its threads, and what they fork; nullopt: all CPUs.
  std::optional<int32_t> pid;
  // Count nothing until the process executes a program.
  bool enable_on_exec = false;
};

inline constexpr uint64_t kDefaultRingBytes = uint64_t{8} << 20;
inline constexpr uint64_t kMaxRingBytes = uint64_t{256} << 20;

class EventSet : public RecordSource {
 public:
  // Opens all events, disabled. `ring_bytes` is rounded up to a power of two of pages. Errors say
  // what failed, on which CPU or process, and what to do; nothing stays open then.
  static absl::StatusOr<std::unique_ptr<EventSet>> Open(Kernel& kernel, const ChosenEvent& event,
                                                        const EventTarget& target,
                                                        uint64_t ring_bytes);
  ~EventSet() override;

  // Mappings, names and forks are recorded from now on.
  absl::Status StartSideBand();
  // Samples are taken from now on (with enable_on_exec: from the exec on).
  absl::Status StartSampling();

  const std::vector<SourceEvent>& events() const override { return events_; }
  bool patient() const override { return false; }
  absl::StatusOr<ReadResult> Next(RawRecord* out) override;
  void Wait(absl::Duration timeout) override;
  void Interrupt() override;
  void Finish() override;
  SourceStats stats() const override;

  size_t cpus() const { return rings_.size(); }
  bool target_gone() const override { return target_gone_; }

 private:
  struct OpenEvent {
    int fd;
    bool sampling;
  };
  struct MappedRing {
    int32_t cpu;
    int fd;  // whose ring it is
    void* memory;
    std::unique_ptr<Ring> ring;
  };

  EventSet(Kernel& kernel, uint64_t ring_bytes) : kernel_(kernel), ring_bytes_(ring_bytes) {}
  absl::Status OpenAll(const ChosenEvent& event, const EventTarget& target);
  absl::Status OpenThreads(const EventTarget& target, const std::vector<int32_t>& cpus);
  // Opens the pair of events of one (thread, CPU) and connects them to the CPU's ring.
  absl::Status OpenPair(int32_t pid, int32_t cpu);
  absl::Status ConnectToRing(int fd, int32_t cpu);
  // Threads born of followed threads while we were still opening: their events were inherited.
  void CollectForked(absl::flat_hash_set<int32_t>* tids);
  absl::Status Enable(bool sampling);
  void ReadCounts();
  void CountLost(const LostRecord& lost);
  bool PeekRing(const perf_event_header* header, SampleId* who, uint32_t* event);

  Kernel& kernel_;
  const uint64_t ring_bytes_;
  ChosenEvent event_;
  std::vector<SourceEvent> events_;  // 0: sampling, 1: side band
  std::vector<OpenEvent> open_;
  std::vector<MappedRing> rings_;
  absl::flat_hash_map<int32_t, size_t> ring_of_cpu_;
  std::unique_ptr<RingOrder> order_;
  std::vector<pollfd> poll_;  // rings, then the signal, then the target process
  int signal_fd_ = -1;
  int pid_fd_ = -1;
  bool finished_ = false;
  bool lost_is_exact_ = false;
  uint64_t lost_in_pmu_ = 0;
  bool enable_on_exec_ = false;
  std::atomic<bool> target_gone_ = false;

  std::atomic<uint64_t> samples_ = 0;
  std::atomic<uint64_t> other_records_ = 0;
  std::atomic<uint64_t> lost_samples_ = 0;
  std::atomic<uint64_t> lost_other_ = 0;
  std::atomic<uint64_t> late_ = 0;
  std::atomic<uint64_t> undecodable_ = 0;
  std::atomic<uint64_t> throttled_ = 0;
  std::atomic<uint64_t> kernel_count_ = 0;
};

}  // namespace lbrd::pmu
