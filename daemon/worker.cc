#include "daemon/worker.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace lbrd::daemon {
namespace {

constexpr pmu::RecordFormat kMadeHereFormat{};
// Samples that are handed on together.
constexpr size_t kDeliverSamples = 256;

// The history of the thread that a sample is of.
class HistoryOfSample : public unwind::TaskHistory {
 public:
  HistoryOfSample(SessionTasks* tasks, const pmu::SampleId& who) : tasks_(*tasks), who_(who) {}
  bool Load(unwind::CallHistory* history) override { return tasks_.LoadHistory(who_, history); }
  void Store(const unwind::CallHistory& history) override { tasks_.StoreHistory(who_, history); }

 private:
  SessionTasks& tasks_;
  const pmu::SampleId& who_;
};

}  // namespace

Worker::Worker(const std::vector<WorkerEvent>* events, unwind::BinaryCache* binaries,
               const unwind::KernelSymbols* kernel, const std::string& kernel_symbols_missing,
               SampleSink* sink, SessionTasks* tasks)
    : events_(*events),
      sink_(sink),
      tasks_(tasks),
      processes_(binaries),
      resolver_(binaries->rule_tables()),
      intern_(kernel, kernel_symbols_missing) {}

void Worker::Run() {
  while (std::optional<RecordBatch> batch = queue_.Pop()) {
    for (const RecordBatch::Item& item : batch->items()) {
      HandleRecord(batch->record(item), item.event);
    }
    if (deferred_.size() > 0) FinishPending(deferred_.Expire(now_ns_), {}, /*answered=*/false);
    DeliverBatch();
  }
  FinishPending(deferred_.Expire(UINT64_MAX), {}, /*answered=*/false);
  DeliverBatch();
}

void Worker::HandleRecord(const perf_event_header* header, uint32_t event) {
  const absl::StatusOr<pmu::Record> decoded =
      pmu::DecodeRecord(header, event == kMadeHere ? kMadeHereFormat : events_[event].format);
  if (!decoded.ok()) {
    if (header->type == PERF_RECORD_SAMPLE) ++undecodable_samples_;
    return;
  }
  // What is made here is known to the session, or for one worker only.
  SessionTasks* const tasks = event == kMadeHere ? nullptr : tasks_;
  if (const auto* sample = std::get_if<pmu::SampleRecord>(&*decoded)) {
    HandleSample(*sample, event);
  } else if (const auto* mmap = std::get_if<pmu::MmapRecord>(&*decoded)) {
    processes_.Apply(*mmap);
  } else if (const auto* comm = std::get_if<pmu::CommRecord>(&*decoded)) {
    processes_.Apply(*comm);
    if (tasks != nullptr) tasks->Apply(*comm);
  } else if (const auto* task = std::get_if<pmu::TaskRecord>(&*decoded)) {
    processes_.Apply(*task);
    if (tasks != nullptr) tasks->Apply(*task);
  } else if (const auto* answer = std::get_if<pmu::CallchainDeferredRecord>(&*decoded)) {
    HandleAnswer(*answer);
  }
}

void Worker::HandleSample(const pmu::SampleRecord& record, uint32_t event) {
  const WorkerEvent& how = events_[event];
  now_ns_ = std::max(now_ns_, record.who.time);
  if (tasks_ != nullptr) tasks_->Apply(record);
  const unwind::Process& process = processes_.Get(record.who.pid);
  current_.time_ns = record.who.time;
  current_.weight = record.period != 0 ? record.period : std::max<uint64_t>(how.fixed_period, 1);
  current_.cpu = record.who.has_cpu ? record.who.cpu : kCpuUnknown;
  current_.event = event;
  current_.pid = record.who.pid;
  current_.tid = record.who.tid;
  if (tasks_ != nullptr) {
    HistoryOfSample history(tasks_, record.who);
    resolver_.Resolve(record, how.resolve, process, &current_.stack, &history);
  } else {
    resolver_.Resolve(record, how.resolve, process, &current_.stack);
  }
  if (current_.stack.deferred) {
    const std::vector<uint64_t>* user = deferred_.LastAnswer(current_.tid, current_.stack.cookie);
    if (user == nullptr) {
      deferred_.Add(current_);
      return;
    }
    resolver_.CompleteDeferred(*user, process, &current_.stack);
  }
  Finish(current_, process);
}

void Worker::HandleAnswer(const pmu::CallchainDeferredRecord& record) {
  FinishPending(deferred_.Answer(record.who.tid, record.cookie, record.ips), record.ips,
                /*answered=*/true);
}

void Worker::FinishPending(std::vector<PendingSample> pending, std::span<const uint64_t> user,
                           bool answered) {
  for (PendingSample& sample : pending) {
    const unwind::Process& process = processes_.Get(sample.pid);
    if (answered) {
      resolver_.CompleteDeferred(user, process, &sample.stack);
    } else {
      unwind::StackResolver::DeferredMissing(&sample.stack);
    }
    Finish(sample, process);
  }
}

void Worker::Finish(const PendingSample& sample, const unwind::Process& process) {
  finished_.push_back({.time_ns = sample.time_ns,
                       .weight = sample.weight,
                       .cpu = sample.cpu,
                       .event = sample.event,
                       .stack = intern_.Intern(sample.stack, process),
                       .thread = intern_.InternThread(sample.pid, sample.tid, process)});
  if (finished_.size() >= kDeliverSamples) DeliverBatch();
}

void Worker::DeliverBatch() {
  for (size_t i = 0; i < unwind::kWindowFindings; ++i) {
    lbr_windows_[i].store(resolver_.lbr_counts().windows[i], std::memory_order_relaxed);
  }
  if (finished_.empty()) return;
  sink_->Deliver(finished_);
  finished_.clear();
}

}  // namespace lbrd::daemon
