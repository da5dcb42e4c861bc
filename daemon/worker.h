// A worker: the owner of the processes whose group leaders hash to it. Turns their records, in time
// order, into address spaces and finished samples.
//
// Thread rules: Run() is the worker's thread; everything else before or after it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "daemon/deferred_samples.h"
#include "daemon/progress.h"
#include "daemon/record_queue.h"
#include "daemon/resolve_ahead.h"
#include "daemon/sample.h"
#include "daemon/sample_share.h"
#include "daemon/session_tasks.h"
#include "daemon/stack_intern.h"
#include "daemon/unwind_totals.h"
#include "daemon/worker_event.h"
#include "pmu/record_source.h"
#include "unwind/process_table.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

class Worker {
 public:
  // Borrows everything. `sink`: gets every sample; nullptr: those who have a share in it get it.
  // `tasks`: nullptr where nobody keeps contexts. `ahead_bytes`: samples are resolved by a thread
  // of their own (ResolveAhead), so many bytes of records before this one names them; 0: by this
  // one.
  Worker(const std::vector<WorkerEvent>* events, unwind::BinaryCache* binaries,
         const KernelNameSource& kernel, SampleSink* sink, SessionTasks* tasks = nullptr,
         size_t ahead_bytes = 0);

  RecordQueue& queue() { return queue_; }
  // Works until the queue is closed and empty.
  void Run();
  // One batch. Run() does this; or who measures it, on one thread and without Run().
  void Work(RecordBatch* batch);

  uint64_t undecodable_samples() const { return undecodable_samples_; }
  // Any thread.
  Progress progress() const;
  // Windows of the LBR in which this was found.
  uint64_t lbr_windows(unwind::WindowFinding finding) const {
    return lbr_windows_[static_cast<size_t>(finding)].load(std::memory_order_relaxed);
  }

 private:
  // Takes batches from queue_ to resolved_ until the former is closed and empty.
  void RunAhead();
  void HandleRecord(const RecordBatch& batch, const RecordBatch::Item& item);
  // `ready`: what was resolved ahead; nullptr: nothing was.
  void HandleSample(const pmu::SampleRecord& record, uint32_t event,
                    std::span<const SampleShare> shares, unwind::ResolvedStack* ready);
  unwind::ResolvedStack* TakeReady();
  // Makes the sample's stack current_'s.
  void ResolveSample(const pmu::SampleRecord& record, const WorkerEvent& how,
                     const unwind::Process& process, unwind::ResolvedStack* ready);
  // Whether somebody still wants the current sample.
  bool TakeShares(std::span<const SampleShare> shares, const unwind::Process& process);
  void HandleAnswer(const pmu::CallchainDeferredRecord& record);
  void FinishPending(std::vector<PendingSample> pending, std::span<const uint64_t> user,
                     bool answered);
  void Finish(const PendingSample& pending, const unwind::Process& process);
  // What was finished: to those who hurry, and to all once it has been held long enough.
  void DeliverBatch();
  void DeliverAll();
  void Depart(Departure& departure);

  const std::vector<WorkerEvent>& events_;
  SampleSink* const sink_;
  SessionTasks* const tasks_;
  const size_t ahead_bytes_;
  RecordQueue queue_;
  const std::unique_ptr<ResolveAhead> ahead_;  // null: this thread resolves
  RecordQueue resolved_;                       // what it has done
  // Of the batch at work: what was resolved ahead and is not used yet.
  std::span<unwind::ResolvedStack> ready_;
  unwind::ProcessTable processes_;
  unwind::StackResolver resolver_;
  StackIntern intern_;
  UnwindReport report_;
  DeferredSamples deferred_;
  PendingSample current_;         // reused for every sample
  std::vector<Sample> finished_;  // for the sink
  struct Outbox {
    std::vector<PickedSample> picked;  // of held_
    bool hurries = false;  // as of its first sample or the last time that all was delivered
    // Of a unit of weight: what rounding kept back, so that sums are true to a unit.
    double kept_back = 0;
  };
  // The next sample of held_.
  void Put(uint64_t weight, const SampleShare& share, Outbox* out);
  void HandOver(Subscriber* subscriber, Outbox* outbox);
  absl::flat_hash_map<Subscriber*, Outbox> outboxes_;
  std::vector<Sample> held_;  // since all was delivered
  absl::Time all_delivered_ = absl::InfinitePast();
  absl::Time due_ = absl::InfiniteFuture();  // when those who do not hurry get what is held
  uint64_t now_ns_ = 0;                      // the newest record's time
  std::atomic<uint64_t> undecodable_samples_ = 0;
  std::atomic<uint64_t> steps_ = 0;  // odd: at work on a batch
  // The resolver's counts, as of the last batch.
  std::array<std::atomic<uint64_t>, unwind::kWindowFindings> lbr_windows_{};
};

}  // namespace lbrd::daemon
