// The way of a sample, behind a RecordSource:
//
//   source (ordered) -> route by group leader -> worker: resolve, name, intern -> sink
//        reader thread  |  bounded queue  |        worker threads
//
// The reader never waits for a worker on a live source: a full queue costs its samples, counted;
// mappings and names are kept on up to twice the bound, since losing them would spoil every later
// sample. On a patient source (a recording) the reader waits instead, and nothing is dropped; what
// is large in a recording is not copied, but read by the worker where the source has it.
//
// Thread rules: Start() and Join() by the owner; the rest from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/progress.h"
#include "daemon/router.h"
#include "daemon/worker.h"
#include "pmu/record_source.h"
#include "pmu/record_writer.h"

namespace lbrd::daemon {

struct PipelineOptions {
  size_t workers = 1;
  size_t queue_bytes = size_t{32} << 20;  // per worker
  SessionTasks* tasks = nullptr;          // told by the workers; nullptr: nobody keeps contexts
  SampleGate* gate = nullptr;             // says who gets a sample; nullptr: the sink gets all
};

struct PipelineStats {
  pmu::SourceStats source;
  uint64_t dropped_queue_full = 0;
  uint64_t undecodable_samples = 0;
  uint64_t side_band_dropped = 0;
  std::array<uint64_t, unwind::kWindowFindings> lbr_windows{};  // by WindowFinding
};

class Pipeline {
 public:
  // Borrows what outlives it: binaries, sink (nullptr where there is a gate).
  Pipeline(std::unique_ptr<pmu::RecordSource> source, std::vector<WorkerEvent> events,
           unwind::BinaryCache* binaries, const KernelNameSource& kernel, SampleSink* sink,
           PipelineOptions options);
  ~Pipeline();

  // The flow ends by itself then. Before Start().
  void set_deadline(absl::Time deadline) { deadline_ = deadline; }
  // Begins. `known`: what is to be known before the first record. `done` is called once, from the
  // reader's thread, when all that came has been delivered: OK, or why it ended early.
  void Start(pmu::RecordWriter known, std::function<void(absl::Status)> done);
  // Ends the flow at its source; what was taken before is still delivered.
  void RequestStop();
  void Join();
  // The gate looks around soon.
  void Wake() { source_->Interrupt(); }
  // From the gate, when no sample of that subscriber will come any more.
  void SendOff(Subscriber* subscriber, std::function<void()> gone);

  PipelineStats stats() const;
  // The reader's first, then each worker's.
  std::vector<Progress> progress() const;
  pmu::RecordSource& source() { return *source_; }

 private:
  void Read();
  absl::Status ReadAll();
  void Route(const pmu::RawRecord& record, int32_t pid);
  void Append(size_t worker, const pmu::RawRecord& record);
  void Flush(size_t worker);
  // Lets go what the worker is done with.
  void LetGo(size_t worker);
  bool ShouldStop() const;

  const std::unique_ptr<pmu::RecordSource> source_;
  const std::vector<WorkerEvent> events_;
  const PipelineOptions options_;
  Router router_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<RecordBatch> batches_;  // being filled, by worker
  std::vector<SampleShare> shares_;   // in the record being routed
  std::vector<size_t> queued_bytes_;  // at most this much is queued, by worker
  pmu::RecordWriter known_;
  std::function<void(absl::Status)> done_;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> rounds_ = 0;  // of the reader
  std::atomic<bool> reading_ = false;
  std::atomic<uint64_t> dropped_queue_full_ = 0;
  std::atomic<uint64_t> side_band_dropped_ = 0;
  std::vector<std::thread> worker_threads_;
  std::thread reader_;
};

}  // namespace lbrd::daemon
