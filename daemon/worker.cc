#include "daemon/worker.h"

#include <pthread.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <variant>

#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

// Samples that are handed on together.
constexpr size_t kDeliverSamples = 256;
// Batches of a recording are on their way in both queues at a time.
constexpr size_t kSpareWithAhead = 64;
// Samples that are held at most for those who do not hurry: 72 KiB a worker, and 16 bytes for each
// share in one.
constexpr size_t kHeldSamples = 1024;

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
               const KernelNameSource& kernel, SampleSink* sink, SessionTasks* tasks,
               size_t ahead_bytes)
    : events_(*events),
      sink_(sink),
      tasks_(tasks),
      ahead_bytes_(ahead_bytes),
      queue_(ahead_bytes != 0 ? kSpareWithAhead : RecordQueue::kSpareBatches),
      ahead_(ahead_bytes != 0 ? std::make_unique<ResolveAhead>(events, binaries) : nullptr),
      processes_(binaries),
      resolver_(binaries->rule_tables()),
      intern_(kernel) {}

void Worker::RunAhead() {
  while (std::optional<RecordBatch> batch = queue_.Pop()) {
    ahead_->Resolve(&*batch);
    queue_.GiveBack(batch->TakeKept());
    resolved_.WaitForRoom(ahead_bytes_);
    resolved_.Push(*std::move(batch));
  }
  resolved_.Close();
}

void Worker::Run() {
  std::thread ahead;
  if (ahead_ != nullptr) {
    ahead = std::thread([this] {
      pthread_setname_np(pthread_self(), "lbrd-unwind");
      RunAhead();
    });
  }
  RecordQueue& from = ahead_ != nullptr ? resolved_ : queue_;
  while (std::optional<RecordBatch> batch = from.Pop(due_)) {
    steps_.fetch_add(1, std::memory_order_relaxed);
    Work(&*batch);
    queue_.GiveBack(*std::move(batch));
    steps_.fetch_add(1, std::memory_order_relaxed);
  }
  if (ahead.joinable()) ahead.join();
  FinishPending(deferred_.Expire(UINT64_MAX), {}, /*answered=*/false);
  DeliverBatch();
  DeliverAll();
}

void Worker::Work(RecordBatch* batch) {
  ready_ = batch->resolved();
  for (const RecordBatch::Item& item : batch->items()) {
    HandleRecord(*batch, item);
  }
  if (deferred_.size() > 0) FinishPending(deferred_.Expire(now_ns_), {}, /*answered=*/false);
  DeliverBatch();
  if (batch->departure() != nullptr) Depart(*batch->departure());
}

Progress Worker::progress() const {
  const uint64_t steps = steps_.load(std::memory_order_relaxed);
  return {.thread = "", .steps = steps, .busy = steps % 2 != 0 || queue_.bytes() != 0};
}

void Worker::HandleRecord(const RecordBatch& batch, const RecordBatch::Item& item) {
  const uint32_t event = item.event;
  const std::span<const SampleShare> shares = batch.shares(item);
  const absl::StatusOr<pmu::Record> decoded = batch.Decode(item, FormatOf(events_, event));
  if (!decoded.ok()) {
    if (batch.record(item)->type == PERF_RECORD_SAMPLE) ++undecodable_samples_;
    for (const SampleShare& share : shares) {
      share.subscriber->Dropped(Subscriber::Drop::kUndecodable);
    }
    return;
  }
  // What is made here is known to the session, or for one worker only.
  SessionTasks* const tasks = event == kMadeHere ? nullptr : tasks_;
  if (const auto* sample = std::get_if<pmu::SampleRecord>(&*decoded)) {
    HandleSample(*sample, event, shares, item.resolved != 0 ? TakeReady() : nullptr);
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
  } else if (const auto* ksymbol = std::get_if<pmu::KsymbolRecord>(&*decoded)) {
    intern_.Apply(*ksymbol);
  }
}

bool Worker::TakeShares(std::span<const SampleShare> shares, const unwind::Process& process) {
  current_.shares.clear();
  if (sink_ != nullptr) return true;
  const std::string& comm = process.Comm(current_.tid);
  for (const SampleShare& share : shares) {
    if (share.asks_comm && !share.subscriber->WantsComm(comm)) continue;
    current_.shares.push_back(share);
  }
  return !current_.shares.empty();
}

void Worker::HandleSample(const pmu::SampleRecord& record, uint32_t event,
                          std::span<const SampleShare> shares, unwind::ResolvedStack* ready) {
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
  if (!TakeShares(shares, process)) return;
  // Named now: by the time that a deferred stack is whole, other code may stand there.
  current_.branches = how.branches ? intern_.InternBranches(record.branch_stack.branches, process,
                                                            record.who.time, how.monotonic)
                                   : nullptr;
  ResolveSample(record, how, process, ready);
  if (current_.stack.deferred) {
    const std::vector<uint64_t>* user = deferred_.LastAnswer(current_.tid, current_.stack.cookie);
    if (user == nullptr) {
      if (tasks_ != nullptr) {
        current_.context = tasks_->BeginDeferred(current_.tid, current_.time_ns);
      }
      deferred_.Add(current_);
      return;
    }
    resolver_.CompleteDeferred(*user, process, &current_.stack);
  }
  Finish(current_, process);
}

unwind::ResolvedStack* Worker::TakeReady() {
  unwind::ResolvedStack* const ready = &ready_.front();
  ready_ = ready_.subspan(1);
  return ready;
}

void Worker::ResolveSample(const pmu::SampleRecord& record, const WorkerEvent& how,
                           const unwind::Process& process, unwind::ResolvedStack* ready) {
  if (ready != nullptr) {
    std::swap(current_.stack, *ready);
  } else if (tasks_ != nullptr) {
    HistoryOfSample history(tasks_, record.who);
    resolver_.Resolve(record, how.resolve, process, &current_.stack, &history);
  } else {
    resolver_.Resolve(record, how.resolve, process, &current_.stack);
  }
}

void Worker::HandleAnswer(const pmu::CallchainDeferredRecord& record) {
  FinishPending(deferred_.Answer(record.who.tid, record.cookie, record.ips), record.ips,
                /*answered=*/true);
}

void Worker::FinishPending(std::vector<PendingSample> pending, std::span<const uint64_t> user,
                           bool answered) {
  for (PendingSample& sample : pending) {
    if (tasks_ != nullptr) tasks_->EndDeferred(sample.tid, sample.time_ns, sample.context);
    const unwind::Process& process = processes_.Get(sample.pid);
    if (answered) {
      resolver_.CompleteDeferred(user, process, &sample.stack);
    } else {
      unwind::StackResolver::DeferredMissing(&sample.stack);
    }
    Finish(sample, process);
  }
}

void Worker::Finish(const PendingSample& pending, const unwind::Process& process) {
  report_.Count(pending.stack.verdict);
  StackIntern::OfSample interned = intern_.InternSample(
      pending.stack, process, pending.tid, pending.time_ns, events_[pending.event].monotonic);
  Sample sample{.time_ns = pending.time_ns,
                .weight = pending.weight,
                .cpu = pending.cpu,
                .event = pending.event,
                .stack = std::move(interned.stack),
                .thread = std::move(interned.thread),
                .branches = pending.branches};
  if (sink_ != nullptr) {
    finished_.push_back(std::move(sample));
    if (finished_.size() >= kDeliverSamples) DeliverBatch();
    return;
  }
  for (const SampleShare& share : pending.shares) {
    const auto [found, fresh] = outboxes_.try_emplace(share.subscriber);
    if (fresh) found->second.hurries = share.subscriber->haste() != Haste::kNone;
    Put(sample.weight, share, &found->second);
  }
  held_.push_back(std::move(sample));
  if (held_.size() >= kHeldSamples) DeliverAll();
}

void Worker::Put(uint64_t weight, const SampleShare& share, Outbox* out) {
  if (share.weight != 0) {
    weight = share.weight;
  } else if (share.scale != 1) {
    const double exact = static_cast<double>(weight) * share.scale + out->kept_back;
    weight = static_cast<uint64_t>(exact);
    out->kept_back = exact - static_cast<double>(weight);
  }
  out->picked.push_back({.index = static_cast<uint32_t>(held_.size()), .weight = weight});
}

void Worker::DeliverBatch() {
  report_.Tell(resolver_, &intern_.recent());
  for (size_t i = 0; i < unwind::kWindowFindings; ++i) {
    lbr_windows_[i].store(resolver_.lbr_counts().windows[i], std::memory_order_relaxed);
  }
  if (!finished_.empty()) {
    sink_->Deliver(finished_);
    finished_.clear();
  }
  if (outboxes_.empty()) return;
  const absl::Time now = absl::Now();
  const absl::Time next = all_delivered_ + kLongestHold;
  // Also when the clock was set back.
  if (now >= next || now < all_delivered_) {
    DeliverAll();
    return;
  }
  for (auto& [subscriber, outbox] : outboxes_) {
    if (outbox.picked.empty()) continue;
    due_ = next;
    if (outbox.hurries) HandOver(subscriber, &outbox);
  }
}

void Worker::HandOver(Subscriber* subscriber, Outbox* outbox) {
  if (outbox->picked.empty()) return;
  subscriber->DeliverPicked(held_, outbox->picked);
  outbox->picked.clear();
}

void Worker::DeliverAll() {
  for (auto& [subscriber, outbox] : outboxes_) {
    outbox.hurries = subscriber->haste() != Haste::kNone;
    HandOver(subscriber, &outbox);
  }
  held_.clear();
  all_delivered_ = absl::Now();
  due_ = absl::InfiniteFuture();
}

void Worker::Depart(Departure& departure) {
  // What waits for an answer of the kernel is waited for by those who stay; who leaves gets it as
  // far as it is known.
  for (PendingSample& pending : deferred_.TakeShareOf(departure.subscriber())) {
    unwind::StackResolver::DeferredMissing(&pending.stack);
    Finish(pending, processes_.Get(pending.pid));
  }
  DeliverBatch();
  DeliverAll();
  outboxes_.erase(departure.subscriber());
  departure.WorkerIsDone();
}

}  // namespace lbrd::daemon
