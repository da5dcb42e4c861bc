// A session's events on the kernel, read as a RecordSource in time order: the rings of what a
// target has open, wherever that moves.
//
// What is opened where is the target's business (pmu/cpu_target.h, task_target.h, thread_target.h);
// this reads. Everything is opened disabled; StartSideBand() and StartSampling() enable.
//
// Memory: ring_bytes per CPU (per thread: pmu/thread_target.h), pinned by the kernel, plus 64 KiB
// per ring that had to wrap.
// Thread rules: as RecordSource. Descriptors and rings are given back by the destructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "pmu/event_target.h"
#include "pmu/installer.h"
#include "pmu/kernel.h"
#include "pmu/owner_filter.h"
#include "pmu/record_source.h"
#include "pmu/record_writer.h"
#include "pmu/ring_set.h"
#include "pmu/stack_source.h"
#include "pmu/target_events.h"
#include "pmu/uid_filter.h"

namespace lbrd::pmu {

inline constexpr uint64_t kDefaultRingBytes = uint64_t{8} << 20;
inline constexpr uint64_t kMaxRingBytes = uint64_t{256} << 20;
// Its reader is woken when so much has been written to a ring, or a quarter of it.
inline constexpr uint64_t kWakeupBytes = uint64_t{2} << 20;

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

  // For a set that is kept while those who want its samples come and go. Called by the reading
  // thread, between two calls of Next().
  //
  // No samples are taken until StartSampling() is called again.
  void PauseSampling();
  // Samples per second, or events per sample, as the event was chosen; not 0. The samples of a
  // clock go on saying the period that they were opened with. The kernel's refusal leaves some CPUs
  // changed and others not: set the rate again.
  absl::Status SetRate(uint64_t rate);
  // Of a set on CPUs: wants others from now on (empty: all). They have their events, or a gap that
  // says why not, once settled() says so, some rounds of reading later.
  void SetCpus(std::vector<int32_t> cpus) { target_->Want(std::move(cpus)); }
  bool settled() const { return target_->settled(); }
  // Reads the events' counts, so that stats() has them as they are now.
  void Refresh();

  const std::vector<SourceEvent>& events() const override { return events_; }
  // Grows when a CPU is sampled again: what was known of processes may be outdated.
  uint64_t gaps_ended() const { return target_->gaps_ended(); }
  // Every record of an earlier time has been handed out, but for late ones.
  uint64_t handed_out_before() const { return rings_.order().handed_out_before(); }
  bool patient() const override { return false; }
  absl::StatusOr<ReadResult> Next(RawRecord* out) override;
  void Wait(absl::Duration timeout) override;
  void Interrupt() override;
  void Finish() override;
  SourceStats stats() const override;
  std::vector<std::string> notes() const override;
  absl::Status LendEvent(int32_t cpu,
                         const std::function<absl::Status(const LentEvent&)>& take) const override;

  // CPUs that are sampled, when it was opened.
  size_t cpus() const { return cpus_; }
  bool target_gone() const override { return target_gone_; }

 private:
  explicit EventSet(Kernel& kernel);
  absl::Status OpenAll(const ChosenEvent& event, const EventTarget& target, uint64_t ring_bytes);
  absl::Status OpenTarget(const EventTarget& target, uint64_t ring_bytes);
  // The next record of the rings, or of those made here.
  bool Take(RawRecord* out);
  // Counts the record; false: it is left out.
  bool Account(const RawRecord& record);
  bool OfOtherUser(const RawRecord& record);
  // Tells the filters of forks, execs, exits and losses.
  void FollowUsers(const RawRecord& record);
  void ReadCounts();
  void CountLost(const LostRecord& lost);
  bool PeekRing(const perf_event_header* header, SampleId* who, uint32_t* event);

  Kernel& kernel_;
  EventCode code_;
  std::vector<SourceEvent> events_;  // kSamplingEvent, kSideBandEvent
  RingSet rings_;
  std::unique_ptr<Installer> installer_;
  std::unique_ptr<TargetEvents> target_;
  // At most one of these.
  std::optional<UidFilter> users_;
  std::optional<OwnerFilter> owners_;
  uint64_t gaps_ended_ = 0;  // that owners_ knows of
  RecordWriter made_;
  const Ring* taken_from_ = nullptr;  // the ring of the record taken last
  size_t made_at_ = 0;                // words of made_ that were handed out
  std::vector<pollfd> poll_;          // the signal, the target process, then rings
  uint64_t polled_changes_ = UINT64_MAX;
  size_t cpus_ = 0;
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
  std::atomic<uint64_t> time_enabled_ns_ = 0;
  std::atomic<uint64_t> time_running_ns_ = 0;
  std::atomic<uint64_t> duplicates_ = 0;
  std::atomic<uint64_t> other_users_ = 0;
};

}  // namespace lbrd::pmu
