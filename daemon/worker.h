// A worker: the owner of the processes whose group leaders hash to it. Turns their records, in time
// order, into address spaces and finished samples.
//
// Thread rules: Run() is the worker's thread; everything else before or after it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/deferred_samples.h"
#include "daemon/record_queue.h"
#include "daemon/sample.h"
#include "daemon/session_tasks.h"
#include "daemon/stack_intern.h"
#include "pmu/record_source.h"
#include "unwind/process_table.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

// Where finished samples go. Called from all workers' threads.
class SampleSink {
 public:
  SampleSink() = default;
  SampleSink(const SampleSink&) = delete;
  SampleSink& operator=(const SampleSink&) = delete;
  virtual ~SampleSink() = default;
  virtual void Deliver(std::span<const Sample> samples) = 0;
};

// How an event's samples are read; index as in RecordSource::events().
struct WorkerEvent {
  pmu::RecordFormat format;
  unwind::ResolveOptions resolve;
  uint64_t fixed_period = 0;  // the weight of samples that carry no period; 0: 1
};

class Worker {
 public:
  // Borrows everything. `tasks`: nullptr where nobody keeps contexts.
  Worker(const std::vector<WorkerEvent>* events, unwind::BinaryCache* binaries,
         const unwind::KernelSymbols* kernel, const std::string& kernel_symbols_missing,
         SampleSink* sink, SessionTasks* tasks = nullptr);

  RecordQueue& queue() { return queue_; }
  // Works until the queue is closed and empty.
  void Run();

  uint64_t undecodable_samples() const { return undecodable_samples_; }
  // Windows of the LBR in which this was found.
  uint64_t lbr_windows(unwind::WindowFinding finding) const {
    return lbr_windows_[static_cast<size_t>(finding)].load(std::memory_order_relaxed);
  }

 private:
  void HandleRecord(const perf_event_header* header, uint32_t event);
  void HandleSample(const pmu::SampleRecord& record, uint32_t event);
  void HandleAnswer(const pmu::CallchainDeferredRecord& record);
  void FinishPending(std::vector<PendingSample> pending, std::span<const uint64_t> user,
                     bool answered);
  void Finish(const PendingSample& sample, const unwind::Process& process);
  void DeliverBatch();

  const std::vector<WorkerEvent>& events_;
  SampleSink* const sink_;
  SessionTasks* const tasks_;
  RecordQueue queue_;
  unwind::ProcessTable processes_;
  unwind::StackResolver resolver_;
  StackIntern intern_;
  DeferredSamples deferred_;
  PendingSample current_;  // reused for every sample
  std::vector<Sample> finished_;
  uint64_t now_ns_ = 0;  // the newest record's time
  std::atomic<uint64_t> undecodable_samples_ = 0;
  // The resolver's counts, as of the last batch.
  std::array<std::atomic<uint64_t>, unwind::kWindowFindings> lbr_windows_{};
};

}  // namespace lbrd::daemon
