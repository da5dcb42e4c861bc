#include "daemon/pipeline.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kBatchBytes = size_t{256} << 10;
// What stays where it is takes no memory of the batch: then it is full with so many bytes of that.
constexpr size_t kBatchKeptBytes = size_t{1} << 20;
// Records of at least so many bytes are not copied where the source can keep them.
constexpr size_t kWorthKeeping = 1024;
// Records that are resolved and wait to be named.
constexpr size_t kAheadBytes = size_t{8} << 20;
// Records between two looks at the clock and the stop flag.
constexpr int kRecordsPerCheck = 1024;

void NameThread(const std::string& name) { pthread_setname_np(pthread_self(), name.c_str()); }

}  // namespace

Pipeline::Pipeline(std::unique_ptr<pmu::RecordSource> source, std::vector<WorkerEvent> events,
                   unwind::BinaryCache* binaries, const KernelNameSource& kernel, SampleSink* sink,
                   PipelineOptions options)
    : source_(std::move(source)),
      events_(std::move(events)),
      options_(options),
      router_(options.workers) {
  // Whoever waits for all of it waits for its slowest thread. (A gate's shares are the worker's.)
  const bool ahead = source_->patient() && options_.gate == nullptr;
  const size_t ahead_bytes = ahead ? std::min(options_.queue_bytes, kAheadBytes) : 0;
  for (size_t i = 0; i < options_.workers; ++i) {
    workers_.push_back(
        std::make_unique<Worker>(&events_, binaries, kernel, sink, options_.tasks, ahead_bytes));
  }
  batches_.resize(options_.workers);
  queued_bytes_.resize(options_.workers);
}

Pipeline::~Pipeline() {
  RequestStop();
  Join();
}

void Pipeline::Start(pmu::RecordWriter known, std::function<void(absl::Status)> done) {
  known_ = std::move(known);
  done_ = std::move(done);
  for (size_t i = 0; i < workers_.size(); ++i) {
    worker_threads_.emplace_back([this, i] {
      NameThread(absl::StrCat("lbrd-work-", i));
      workers_[i]->Run();
    });
  }
  reader_ = std::thread([this] {
    NameThread("lbrd-read");
    Read();
  });
}

void Pipeline::RequestStop() {
  stop_ = true;
  source_->Interrupt();
}

void Pipeline::Join() {
  if (reader_.joinable()) reader_.join();
}

bool Pipeline::ShouldStop() const {
  return stop_ || source_->target_gone() || absl::Now() >= deadline_ ||
         (options_.gate != nullptr && options_.gate->over());
}

void Pipeline::Read() {
  reading_ = true;
  const absl::Status status = ReadAll();
  reading_ = false;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Flush(i);
    workers_[i]->queue().Close();
  }
  for (std::thread& worker : worker_threads_) worker.join();
  done_(status.ok() ? source_->Intact() : status);
}

absl::Status Pipeline::ReadAll() {
  const std::vector<uint64_t>& words = known_.words();
  for (size_t at = 0; at < words.size();) {
    const auto* header = reinterpret_cast<const perf_event_header*>(words.data() + at);
    int32_t pid;  // the first field of every record that RecordWriter makes
    std::memcpy(&pid, header + 1, sizeof(pid));
    Route({.header = header, .event = kMadeHere}, pid);
    at += header->size / 8;
  }
  known_.Clear();

  int until_check = 0;
  bool finishing = false;
  while (true) {
    if (!finishing && --until_check < 0) {
      until_check = kRecordsPerCheck;
      rounds_.fetch_add(1, std::memory_order_relaxed);
      if (options_.gate != nullptr) options_.gate->Attend();
      if (ShouldStop()) {
        source_->Finish();
        finishing = true;
      }
    }
    pmu::RawRecord record;
    const absl::StatusOr<pmu::ReadResult> result = source_->Next(&record);
    if (!result.ok()) return result.status();
    switch (*result) {
      case pmu::ReadResult::kRecord:
        if (options_.gate != nullptr) {
          shares_.clear();
          options_.gate->See(record, &shares_);
          if (record.header->type == PERF_RECORD_SAMPLE && shares_.empty()) break;
        }
        Route(record, record.who.pid);
        break;
      case pmu::ReadResult::kIdle:
        for (size_t i = 0; i < workers_.size(); ++i) Flush(i);
        if (!ShouldStop()) {
          const absl::Duration longest =
              options_.gate == nullptr ? kShortRound : options_.gate->MaxWait();
          source_->Wait(std::clamp(deadline_ - absl::Now(), absl::ZeroDuration(), longest));
        }
        until_check = 0;
        break;
      case pmu::ReadResult::kEnd:
        return absl::OkStatus();
    }
  }
}

void Pipeline::Route(const pmu::RawRecord& record, int32_t pid) {
  if (record.header->type == PERF_RECORD_KSYMBOL) {
    // Kernel code is in everybody's stacks.
    for (size_t i = 0; i < workers_.size(); ++i) Append(i, record);
    return;
  }
  const Router::Route route = router_.RouteRecord(record.header, pid);
  if (route.moved) {
    pmu::RecordWriter gone;
    gone.Exit(pid, pid);
    Append(route.moved_from,
           {.header = reinterpret_cast<const perf_event_header*>(gone.words().data()),
            .event = kMadeHere});
  }
  Append(route.worker, record);
}

void Pipeline::Append(size_t worker, const pmu::RawRecord& record) {
  const perf_event_header* const header = record.header;
  const bool sample = header->type == PERF_RECORD_SAMPLE;
  if (!source_->patient()) {
    const size_t bound = sample ? options_.queue_bytes : 2 * options_.queue_bytes;
    const size_t filling = batches_[worker].bytes();
    if (queued_bytes_[worker] + filling > bound) {
      // The worker may have caught up since the last push.
      queued_bytes_[worker] = workers_[worker]->queue().bytes();
      if (queued_bytes_[worker] + filling > bound) {
        (sample ? dropped_queue_full_ : side_band_dropped_).fetch_add(1, std::memory_order_relaxed);
        if (!sample) return;
        for (const SampleShare& share : shares_) {
          share.subscriber->Dropped(Subscriber::Drop::kQueueFull);
        }
        return;
      }
    }
  }
  const bool large =
      sample && record.event != kMadeHere && header->size + record.stack.bytes >= kWorthKeeping;
  const std::optional<pmu::KeptRecord> kept = large ? source_->Keep() : std::nullopt;
  const std::span<const SampleShare> shares =
      sample ? std::span<const SampleShare>(shares_) : std::span<const SampleShare>();
  if (record.stack.begin != nullptr) {
    batches_[worker].AppendSplit(record, kept, shares);
  } else if (kept.has_value()) {
    batches_[worker].AppendKept(header, record.event, *kept, shares);
  } else {
    const std::optional<pmu::EmptyStack> empty =
        large ? pmu::FindEmptyStack(header, FormatOf(events_, record.event)) : std::nullopt;
    batches_[worker].Append(header, record.event, shares, empty);
  }
  const RecordBatch& batch = batches_[worker];
  if (batch.bytes() - batch.kept_bytes() >= kBatchBytes || batch.kept_bytes() >= kBatchKeptBytes) {
    Flush(worker);
  }
}

void Pipeline::SendOff(Subscriber* subscriber, std::function<void()> gone) {
  const auto departure = std::make_shared<Departure>(subscriber, workers_.size(), std::move(gone));
  for (size_t i = 0; i < workers_.size(); ++i) {
    batches_[i].set_departure(departure);
    Flush(i);
  }
}

void Pipeline::Flush(size_t worker) {
  if (batches_[worker].empty()) return;
  RecordQueue& queue = workers_[worker]->queue();
  if (source_->patient()) queue.WaitForRoom(options_.queue_bytes);
  queue.Push(std::exchange(batches_[worker], queue.TakeSpare()));
  queued_bytes_[worker] = queue.bytes();
  LetGo(worker);
}

void Pipeline::LetGo(size_t worker) {
  RecordQueue& queue = workers_[worker]->queue();
  for (const pmu::KeptRecord& kept : queue.TakeBack()) source_->LetGo(kept);
}

std::vector<Progress> Pipeline::progress() const {
  std::vector<Progress> all = {
      {.thread = "lbrd-read", .steps = rounds_.load(std::memory_order_relaxed), .busy = reading_}};
  for (size_t i = 0; i < workers_.size(); ++i) {
    all.push_back(workers_[i]->progress());
    all.back().thread = absl::StrCat("lbrd-work-", i);
  }
  // All of a patient source may wait for the stream's reader, as long as that likes.
  for (Progress& thread : all) thread.busy = thread.busy && !source_->patient();
  return all;
}

PipelineStats Pipeline::stats() const {
  PipelineStats stats{.source = source_->stats(),
                      .dropped_queue_full = dropped_queue_full_,
                      .side_band_dropped = side_band_dropped_};
  for (const std::unique_ptr<Worker>& worker : workers_) {
    stats.undecodable_samples += worker->undecodable_samples();
    for (size_t i = 0; i < unwind::kWindowFindings; ++i) {
      stats.lbr_windows[i] += worker->lbr_windows(static_cast<unwind::WindowFinding>(i));
    }
  }
  return stats;
}

}  // namespace lbrd::daemon
