// The history: what sessions that ask for it found, kept on the disk for questions about the past.
//
//   workers -> HistoryRecorder (one a session) -> lbrd-store: seal -> queue -> HistoryWriter
//                                                 any thread: QueryHistory
//
// What cannot be written (a full disk) waits in the queue and is tried again, at longer and longer
// intervals; beyond the queue's bound the oldest bucket is dropped, and the history says so. A file
// that turns out damaged is set aside as PATH.damaged (one: an older one goes) and a new one begun.
//
// Bounds: the queue kQueueBytes; the file, see HistoryWriter; kMaxQueries at once.
//
// Thread rules: thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/history_options.h"
#include "daemon/history_query.h"
#include "daemon/history_recorder.h"
#include "daemon/history_writer.h"
#include "daemon/process_origin.h"
#include "pmu/kernel.h"

namespace lbrd::daemon {

struct HistoryStats {
  uint64_t bytes = 0;           // on the disk
  uint64_t buckets_stored = 0;  // since the daemon started; on the disk when they count
  int64_t last_bucket = 0;      // the id of the last one
  uint64_t buckets_evicted = 0;
  uint64_t buckets_dropped = 0;
  uint64_t samples_dropped = 0;  // in those
  uint64_t queue_bytes = 0;
  uint64_t failures = 0;  // attempts to write that failed
  uint64_t cpu_ns = 0;    // of the storage thread
  std::string error;      // why nothing can be written now; empty: it can
  std::string notice;     // what a user must know: a damaged file was set aside, …
};

class History {
 public:
  static constexpr size_t kQueueBytes = size_t{32} << 20;
  static constexpr int kMaxQueries = 4;

  // kAlreadyExists: another daemon writes this history. Others: it cannot be had, and why.
  static absl::StatusOr<std::unique_ptr<History>> Open(pmu::Kernel* kernel, HistoryOptions options);
  // Stores what there is to store.
  ~History();

  // A session's way into the history. It may outlive this; then what it gets is lost.
  std::shared_ptr<HistoryRecorder> Record(std::string session, uint32_t owner,
                                          std::vector<RecordedEvent> events);
  // What was sampled until now is stored first, unless that was done less than a second ago.
  absl::StatusOr<HistoryAnswer> Query(const HistoryQuery& query);

  HistoryStats stats() const;
  const HistoryOptions& options() const { return options_; }

 private:
  // What recorders use to say that there is work; it outlives this with them.
  struct Bell {
    absl::Mutex mutex;
    bool rung ABSL_GUARDED_BY(mutex) = false;
    void Ring() {
      absl::MutexLock lock(&mutex);
      rung = true;
    }
  };

  History(pmu::Kernel* kernel, HistoryOptions options, int lock_fd)
      : kernel_(*kernel), options_(std::move(options)), lock_fd_(lock_fd), facts_(kernel) {}

  // The storage thread.
  void Run();
  std::vector<std::shared_ptr<HistoryRecorder>> Recorders() const;
  void ReadNewProcesses();
  void SealRecorders(bool all);
  void WriteQueue();
  absl::Status WriteFront();
  absl::Status OpenWriter();
  absl::Status SetAside(const absl::Status& why);
  void Drop(const HistoryBucket& bucket, absl::string_view why);
  void Failed(const absl::Status& status);
  void Tidy();
  void Publish();

  absl::Status Flush();

  pmu::Kernel& kernel_;
  const HistoryOptions options_;
  const int lock_fd_;
  const std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();

  // The storage thread's own, and Open()'s before it runs.
  ProcessOriginTable facts_;
  std::optional<HistoryWriter> writer_;
  std::deque<HistoryBucket> queue_;
  size_t queue_bytes_ = 0;
  std::vector<HistoryLoss> losses_;
  absl::Time next_try_ = absl::InfinitePast();
  absl::Duration back_off_ = absl::ZeroDuration();
  int64_t unix_offset_ns_ = 0;
  HistoryStats counts_;

  mutable absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t flushes_wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_flush_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int queries_ ABSL_GUARDED_BY(mutex_) = 0;
  bool damage_seen_ ABSL_GUARDED_BY(mutex_) = false;  // by a reader
  std::vector<std::shared_ptr<HistoryRecorder>> recorders_ ABSL_GUARDED_BY(mutex_);
  HistoryStats published_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace lbrd::daemon
