#include "daemon/history_recorder.h"

#include <algorithm>
#include <utility>

namespace lbrd::daemon {
namespace {

// Samples come at most this late: rings are read every 500 ms, and deferred stacks waited for 2 s.
constexpr uint64_t kLatenessNs = 2'750'000'000;
// A sample that is older goes into the oldest bucket that takes samples.
constexpr uint64_t kOpenBuckets = 6;
constexpr size_t kMaxNewProcesses = 1 << 14;

}  // namespace

HistoryRecorder::HistoryRecorder(pmu::Kernel* kernel, std::string session, uint32_t owner,
                                 std::vector<RecordedEvent> events, uint64_t bucket_ns,
                                 std::function<void()> wake)
    : kernel_(*kernel),
      session_(std::move(session)),
      owner_(owner),
      events_(std::move(events)),
      bucket_ns_(bucket_ns),
      wake_(std::move(wake)) {}

void HistoryRecorder::Begin(std::function<uint64_t()> lost) {
  {
    absl::MutexLock lock(&lost_mutex_);
    lost_ = std::move(lost);
  }
  absl::MutexLock lock(&mutex_);
  begun_ = true;
  covered_until_ns_ = kernel_.Now();
}

void HistoryRecorder::End() {
  {
    absl::MutexLock lock(&lost_mutex_);
    if (lost_) lost_at_end_ = lost_();
    lost_ = nullptr;
  }
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    ended_ = true;
    end_ns_ = kernel_.Now();
  }
  wake_();
}

bool HistoryRecorder::ended() const {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

uint64_t HistoryRecorder::BucketOf(const Sample& sample, uint64_t now_ns) const {
  const uint64_t newest = now_ns / bucket_ns_;
  const uint64_t oldest = covered_until_ns_ / bucket_ns_;
  return std::clamp(sample.time_ns / bucket_ns_, oldest - std::min(oldest, kOpenBuckets), newest);
}

void HistoryRecorder::Deliver(std::span<const Sample> samples) {
  const uint64_t now_ns = kernel_.Now();
  bool wake = false;
  {
    absl::MutexLock lock(&mutex_);
    if (!begun_ || ended_) return;
    for (const Sample& sample : samples) {
      Bucket& bucket = open_[BucketOf(sample, now_ns)];
      auto sum = bucket.sums.find(
          ProfileTable::KeyView(sample.stack.get(), sample.thread.get(), sample.event));
      if (sum == bucket.sums.end()) {
        const size_t bytes = ProfileTable::EntryBytes(*sample.stack);
        const bool full =
            bytes_ + bytes > ProfileTable::kLeastBytes &&
            SampleMemory::OfProcess().left(MemoryShare::kWhole) < ProfileTable::kEntryBytes;
        if (bytes_ + bytes > kMaxBytes || full || sample.event >= events_.size()) {
          ++not_taken_;
          continue;
        }
        bytes_ += bytes;
        memory_.Resize(memory_.bytes() + ProfileTable::kEntryBytes);
        sum = bucket.sums
                  .emplace(ProfileTable::Key(sample.stack, sample.thread, sample.event),
                           ProfileTable::Sum{})
                  .first;
        const auto [first, fresh] =
            bucket.processes.try_emplace(sample.thread->pid, sample.time_ns);
        first->second = std::min(first->second, sample.time_ns);
        if (fresh && new_processes_.size() < kMaxNewProcesses) {
          new_processes_.push_back(sample.thread->pid);
          wake = true;
        }
      }
      sum->second.samples += 1;
      sum->second.weight += sample.weight;
    }
  }
  if (wake) wake_();
}

std::vector<int32_t> HistoryRecorder::TakeNewProcesses() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(new_processes_, {});
}

void HistoryRecorder::AppendBuckets(const Bucket& bucket, uint64_t begin_ns, uint64_t end_ns,
                                    int64_t unix_offset_ns, const FindFacts& facts,
                                    std::vector<HistoryBucket>* out) const {
  absl::flat_hash_map<int32_t, std::shared_ptr<const ProcessOrigin>> processes;
  for (const auto& [pid, first_ns] : bucket.processes) processes[pid] = facts(pid, first_ns);
  std::map<uint32_t, HistoryBucket> by_event;
  if (bucket.sums.empty()) by_event[0];
  for (const auto& [key, sum] : bucket.sums) {
    const auto& [stack, thread, event] = key;
    by_event[event].entries.push_back({.stack = stack,
                                       .thread = thread,
                                       .process = processes[thread->pid],
                                       .samples = sum.samples,
                                       .weight = sum.weight});
  }
  for (auto& [event, sealed] : by_event) {
    sealed.session = session_;
    sealed.session_owner = owner_;
    if (event < events_.size()) {
      sealed.event = events_[event].name;
      sealed.unit = events_[event].unit;
    }
    sealed.begin_ns = static_cast<int64_t>(begin_ns) + unix_offset_ns;
    sealed.end_ns = static_cast<int64_t>(end_ns) + unix_offset_ns;
    out->push_back(std::move(sealed));
  }
}

std::vector<HistoryBucket> HistoryRecorder::Seal(bool all, int64_t unix_offset_ns,
                                                 const FindFacts& facts) {
  uint64_t lost = 0;
  {
    absl::MutexLock lock(&lost_mutex_);
    lost = lost_ ? lost_() : lost_at_end_;
  }
  const uint64_t now_ns = kernel_.Now();
  struct Span {
    Bucket bucket;
    uint64_t begin_ns;
    uint64_t end_ns;
  };
  std::vector<Span> spans;
  uint64_t dropped = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (!begun_) return {};
    uint64_t until = (now_ns - std::min(now_ns, kLatenessNs)) / bucket_ns_ * bucket_ns_;
    if (all || ended_) until = ended_ ? end_ns_ : now_ns;
    const auto cover = [&](uint64_t end_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      if (covered_until_ns_ < end_ns) spans.push_back({{}, covered_until_ns_, end_ns});
      covered_until_ns_ = std::max(covered_until_ns_, end_ns);
    };
    while (!open_.empty() && open_.begin()->first * bucket_ns_ < until) {
      auto first = open_.extract(open_.begin());
      const uint64_t begin = first.key() * bucket_ns_;
      const uint64_t end = std::min(begin + bucket_ns_, until);
      if (end > covered_until_ns_) {
        cover(begin);
        spans.push_back({std::move(first.mapped()), covered_until_ns_, end});
        covered_until_ns_ = end;
      } else {
        spans.push_back({std::move(first.mapped()), begin, end});  // it came late
      }
      for (const auto& [key, sum] : spans.back().bucket.sums) {
        bytes_ -= ProfileTable::EntryBytes(*std::get<0>(key));
      }
      memory_.Resize(memory_.bytes() - spans.back().bucket.sums.size() * ProfileTable::kEntryBytes);
    }
    cover(until);
    if (!spans.empty()) {
      dropped = lost + not_taken_ - dropped_told_;
      dropped_told_ += dropped;
    }
  }
  // The facts are read without the lock: workers do not wait for /proc.
  std::vector<HistoryBucket> buckets;
  for (const Span& span : spans) {
    AppendBuckets(span.bucket, span.begin_ns, span.end_ns, unix_offset_ns, facts, &buckets);
  }
  if (!buckets.empty()) buckets.back().dropped = dropped;
  return buckets;
}

}  // namespace lbrd::daemon
