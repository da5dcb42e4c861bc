#include "daemon/history.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/history_reader.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);
constexpr absl::Duration kLeastBackOff = absl::Seconds(1);
constexpr absl::Duration kMostBackOff = absl::Seconds(30);
constexpr absl::Duration kFlushPatience = absl::Seconds(5);
// New processes are looked up as they come, but not more often than this.
constexpr absl::Duration kLeastPause = absl::Milliseconds(20);
constexpr int64_t kClockStepNs = 100'000'000;
constexpr size_t kMaxLosses = 256;

int64_t UnixNow() { return absl::GetCurrentTimeNanos(); }

uint64_t ThreadCpuNs() {
  timespec time;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0) return 0;
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// Makes the folder, for its owner only, and takes the lock that keeps other daemons away.
absl::StatusOr<int> LockHistory(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty() && std::filesystem::create_directories(folder, error)) {
    chmod(folder.c_str(), 0700);
  }
  if (error) {
    return absl::PermissionDeniedError(absl::StrCat("cannot make ", folder.string(), ": ",
                                                    error.message(),
                                                    "; name another file with --history"));
  }
  const std::string lock = path + ".lock";
  const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("cannot make ", lock, " (--history names another file)"));
  }
  // An engine whose broker was killed may take a moment to end.
  for (int tries = 0; tries < 20; ++tries) {
    if (tries != 0) absl::SleepFor(absl::Milliseconds(50));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  }
  close(fd);
  return absl::AlreadyExistsError(absl::StrCat(
      "another lbrd writes ", path, "; name another file with --history, or use --no-history"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<History>> History::Open(pmu::Kernel* kernel,
                                                       HistoryOptions options) {
  const absl::StatusOr<int> lock = LockHistory(options.path);
  if (!lock.ok()) return lock.status();
  auto history = std::unique_ptr<History>(new History(kernel, std::move(options), *lock));
  history->unix_offset_ns_ = UnixNow() - static_cast<int64_t>(kernel->Now());
  absl::Status opened = history->OpenWriter();
  if (absl::IsDataLoss(opened)) opened = history->SetAside(opened);
  // A full disk may have room later, and the past can be asked about meanwhile.
  if (absl::IsResourceExhausted(opened)) {
    history->Failed(opened);
    opened = absl::OkStatus();
  }
  if (!opened.ok()) return opened;
  history->Publish();
  history->thread_ = std::thread([raw = history.get()] {
    pthread_setname_np(pthread_self(), "lbrd-store");
    raw->Run();
  });
  return history;
}

History::~History() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  bell_->Ring();
  if (thread_.joinable()) thread_.join();
  writer_.reset();
  close(lock_fd_);
}

std::shared_ptr<HistoryRecorder> History::Record(std::string session, uint32_t owner,
                                                 std::vector<RecordedEvent> events) {
  auto recorder = std::make_shared<HistoryRecorder>(
      &kernel_, std::move(session), owner, std::move(events),
      static_cast<uint64_t>(absl::ToInt64Nanoseconds(options_.bucket)),
      [bell = bell_] { bell->Ring(); });
  absl::MutexLock lock(&mutex_);
  recorders_.push_back(recorder);
  return recorder;
}

absl::Status History::OpenWriter() {
  absl::StatusOr<HistoryWriter> writer =
      HistoryWriter::Open(options_.path, options_.max_bytes, UnixNow());
  if (!writer.ok()) return writer.status();
  writer_.emplace(*std::move(writer));
  return absl::OkStatus();
}

absl::Status History::SetAside(const absl::Status& why) {
  writer_.reset();
  const std::string aside = options_.path + ".damaged";
  for (const char* part : {"", "-wal", "-shm"}) {
    const std::string from = options_.path + part;
    const std::string to = aside + part;
    unlink(to.c_str());
    if (rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot set ", from, " aside"));
    }
  }
  counts_.notice = absl::StrCat("the history was damaged (", std::string(why.message()),
                                "); it is now ", aside, ", and a new one has begun");
  Log(LogLevel::kError, counts_.notice);
  return OpenWriter();
}

void History::Failed(const absl::Status& status) {
  ++counts_.failures;
  back_off_ = std::clamp(2 * back_off_, kLeastBackOff, kMostBackOff);
  next_try_ = absl::Now() + back_off_;
  if (counts_.error.empty()) {
    Log(LogLevel::kError,
        absl::StrCat("the history cannot be written: ", std::string(status.message()),
                     "; it is tried again, and what waits is kept in memory"));
  }
  counts_.error = std::string(status.message());
}

void History::Drop(const HistoryBucket& bucket, absl::string_view why) {
  const uint64_t samples = bucket.samples() + bucket.dropped;
  ++counts_.buckets_dropped;
  counts_.samples_dropped += samples;
  // One loss as long as nothing changes.
  if (!losses_.empty() && losses_.back().session == bucket.session && losses_.back().why == why) {
    HistoryLoss& last = losses_.back();
    last.begin_ns = std::min(last.begin_ns, bucket.begin_ns);
    last.end_ns = std::max(last.end_ns, bucket.end_ns);
    last.samples += samples;
    return;
  }
  if (losses_.size() >= kMaxLosses) losses_.erase(losses_.begin());
  losses_.push_back({.session = bucket.session,
                     .begin_ns = bucket.begin_ns,
                     .end_ns = bucket.end_ns,
                     .samples = samples,
                     .why = std::string(why)});
}

std::vector<std::shared_ptr<HistoryRecorder>> History::Recorders() const {
  absl::MutexLock lock(&mutex_);
  return recorders_;
}

void History::ReadNewProcesses() {
  for (const std::shared_ptr<HistoryRecorder>& recorder : Recorders()) {
    for (const int32_t pid : recorder->TakeNewProcesses()) facts_.Read(pid);
  }
}

void History::SealRecorders(bool all) {
  for (const std::shared_ptr<HistoryRecorder>& recorder : Recorders()) {
    const bool ended = recorder->ended();
    std::vector<HistoryBucket> buckets = recorder->Seal(
        all, unix_offset_ns_,
        [this](int32_t pid, uint64_t first_ns) { return facts_.Find(pid, first_ns); });
    for (HistoryBucket& bucket : buckets) {
      queue_bytes_ += bucket.bytes();
      queue_.push_back(std::move(bucket));
    }
    if (!ended) continue;
    absl::MutexLock lock(&mutex_);
    recorders_.erase(std::remove(recorders_.begin(), recorders_.end(), recorder), recorders_.end());
  }
  while (queue_bytes_ > kQueueBytes) {
    queue_bytes_ -= queue_.front().bytes();
    Drop(queue_.front(), counts_.error.empty() ? "the disk is too slow" : counts_.error);
    queue_.pop_front();
  }
  // The wall clock is set now and then: what is sealed already keeps its time.
  const int64_t offset_ns = UnixNow() - static_cast<int64_t>(kernel_.Now());
  if (std::abs(offset_ns - unix_offset_ns_) > kClockStepNs) unix_offset_ns_ = offset_ns;
}

absl::Status History::WriteFront() {
  if (!writer_.has_value()) {
    if (absl::Status opened = OpenWriter(); !opened.ok()) return opened;
  }
  while (!losses_.empty()) {
    if (absl::Status stored = writer_->StoreLoss(losses_.front()); !stored.ok()) return stored;
    losses_.erase(losses_.begin());
  }
  if (queue_.empty()) return absl::OkStatus();
  absl::Status stored = writer_->Store(queue_.front());
  if (absl::IsOutOfRange(stored)) {
    Drop(queue_.front(), stored.message());
    stored = absl::OkStatus();
  } else if (stored.ok()) {
    ++counts_.buckets_stored;
  }
  if (!stored.ok()) return stored;
  queue_bytes_ -= queue_.front().bytes();
  queue_.pop_front();
  return absl::OkStatus();
}

void History::WriteQueue() {
  if (absl::Now() < next_try_) return;
  while (!queue_.empty() || !losses_.empty() || !writer_.has_value()) {
    absl::Status written = WriteFront();
    if (absl::IsDataLoss(written)) written = SetAside(written);
    if (!written.ok()) return Failed(written);
    if (!counts_.error.empty()) Log(LogLevel::kInfo, "the history can be written again");
    counts_.error.clear();
    back_off_ = absl::ZeroDuration();
  }
}

void History::Tidy() {
  bool damage_seen;
  {
    absl::MutexLock lock(&mutex_);
    damage_seen = std::exchange(damage_seen_, false);
  }
  absl::Status tidied = writer_->Tidy(UnixNow() - absl::ToInt64Nanoseconds(options_.max_age));
  if (tidied.ok() && damage_seen) tidied = writer_->Check();
  if (absl::IsDataLoss(tidied)) tidied = SetAside(tidied);
  if (!tidied.ok()) Failed(tidied);
}

void History::Publish() {
  if (writer_.has_value()) {
    const HistoryWriterStats stats = writer_->stats();
    counts_.bytes = stats.bytes;
    counts_.last_bucket = stats.last_bucket;
    counts_.buckets_evicted = stats.buckets_evicted;
  }
  counts_.queue_bytes = queue_bytes_;
  counts_.cpu_ns = ThreadCpuNs();
  absl::MutexLock lock(&mutex_);
  published_ = counts_;
}

void History::Run() {
  absl::Time next_tick = absl::Now() + kTick;
  while (true) {
    {
      absl::MutexLock lock(&bell_->mutex);
      const auto rung = [this]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(bell_->mutex) { return bell_->rung; };
      bell_->mutex.AwaitWithTimeout(absl::Condition(&rung), kTick);
      bell_->rung = false;
    }
    bool stop;
    uint64_t wanted;
    bool flush;
    {
      absl::MutexLock lock(&mutex_);
      stop = stop_;
      wanted = flushes_wanted_;
      flush = wanted != flushes_done_;
    }
    // As soon as may be: they may end.
    ReadNewProcesses();
    const bool tick = absl::Now() >= next_tick;
    if (!tick && !flush && !stop) {
      absl::SleepFor(kLeastPause);
      continue;
    }
    SealRecorders(stop || flush);
    if (stop) next_try_ = absl::InfinitePast();
    WriteQueue();
    if (tick) next_tick = absl::Now() + kTick;
    if (tick && writer_.has_value() && counts_.error.empty()) Tidy();
    Publish();
    {
      absl::MutexLock lock(&mutex_);
      flushes_done_ = wanted;
    }
    if (stop) break;
  }
  if (writer_.has_value()) writer_->EndRun(UnixNow()).IgnoreError();
}

absl::Status History::Flush() {
  uint64_t number;
  {
    absl::MutexLock lock(&mutex_);
    if (queries_ >= kMaxQueries) {
      return absl::ResourceExhaustedError(
          absl::StrCat(kMaxQueries, " queries run already; try again"));
    }
    ++queries_;
    if (absl::Now() < last_flush_ + kTick) return absl::OkStatus();
    last_flush_ = absl::Now();
    number = ++flushes_wanted_;
  }
  bell_->Ring();
  absl::MutexLock lock(&mutex_);
  const auto done = [this, number]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return flushes_done_ >= number; };
  mutex_.AwaitWithTimeout(absl::Condition(&done), kFlushPatience);
  return absl::OkStatus();
}

absl::StatusOr<HistoryAnswer> History::Query(const HistoryQuery& query) {
  if (absl::Status flushed = Flush(); !flushed.ok()) return flushed;
  absl::StatusOr<HistoryAnswer> answer = QueryHistory(options_.path, query);
  absl::MutexLock lock(&mutex_);
  --queries_;
  damage_seen_ = damage_seen_ || absl::IsDataLoss(answer.status());
  if (!answer.ok()) return answer;
  if (!published_.error.empty()) {
    answer->notes.push_back(
        absl::StrCat("the history cannot be written now, and what was sampled "
                     "last is not in it: ",
                     published_.error));
  }
  if (!published_.notice.empty()) answer->notes.push_back(published_.notice);
  return answer;
}

HistoryStats History::stats() const {
  absl::MutexLock lock(&mutex_);
  return published_;
}

}  // namespace lbrd::daemon
