// Writes buckets to the history's database, and keeps it within its bounds.
//
// A bucket and what it refers to is on the disk when Store() is OK (an fsync of the log), and
// visible to readers then, whole. Definitions go before it in transactions of their own, so that
// none is large; those that no bucket came to use are swept like any other.
//
// Bounds: `max_bytes` holds for the database with its indices and its log together: SQLite itself
// refuses pages beyond three quarters, and a log beyond one quarter is written back before anything
// is added to it. Where room gets scarce the oldest buckets go, and then the definitions that no
// bucket uses any more, in transactions of bounded size. See docs/design/history.md.
//
// Thread rules: one owner. Other connections may read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/history_bucket.h"
#include "daemon/history_options.h"
#include "daemon/siphash.h"
#include "daemon/sqlite.h"

namespace lbrd::daemon {

struct HistoryWriterStats {
  uint64_t bytes = 0;            // of the database and its log
  uint64_t buckets_evicted = 0;  // since it was opened
  int64_t last_bucket = 0;       // the id of the last that was stored, by anybody
};

class HistoryWriter {
 public:
  static constexpr uint64_t kLeastBytes = HistoryOptions::kLeastBytes;

  // Opens the database at `path`, or makes one (mode 0600, in a folder that exists), and begins a
  // run. `now_ns`: Unix time. kDataLoss: the file is damaged, or no history.
  static absl::StatusOr<HistoryWriter> Open(const std::string& path, uint64_t max_bytes,
                                            int64_t now_ns);

  // kResourceExhausted: no room on the disk. kOutOfRange: not below the bound, even if all older
  // buckets go.
  // kUnavailable: a reader holds the log up; try again. kDataLoss: the file is damaged.
  absl::Status Store(const HistoryBucket& bucket);
  absl::Status StoreLoss(const HistoryLoss& loss);
  // Evicts what ended before `oldest_ns`, and takes one step of whatever else is to be done.
  absl::Status Tidy(int64_t oldest_ns);
  // Says that the run ends as it should.
  absl::Status EndRun(int64_t now_ns);
  // kDataLoss: SQLite finds the file damaged. Reads all of it.
  absl::Status Check();

  HistoryWriterStats stats() const;

 private:
  // Ids that need not be written again in this epoch: at most kMaxKnown, 16 MiB.
  static constexpr size_t kMaxKnown = 1u << 20;

  struct Statements {
    Statement binary, frame, stack, process, thread;
    Statement bucket, count, run, loss;
    Statement oldest, forget_counts, forget_bucket, forget_losses, forget_runs;
    Statement sweep_end[5], sweep[5];  // by table, as in kDefinitions
  };

  HistoryWriter(std::string path, uint64_t max_bytes, Database database)
      : path_(std::move(path)), max_bytes_(max_bytes), database_(std::move(database)) {}
  absl::Status Begin(int64_t now_ns);
  absl::Status PrepareStatements();

  absl::Status StoreOnce(const HistoryBucket& bucket);
  absl::Status StoreInTransactions(const HistoryBucket& bucket, Transaction* transaction);
  absl::StatusOr<int64_t> DefineStack(const StackInfo& stack);
  absl::StatusOr<int64_t> DefineFrame(const FrameInfo& frame);
  absl::StatusOr<int64_t> DefineBinary(const BinaryInfo* binary);
  absl::StatusOr<int64_t> DefineThread(const HistoryEntry& entry);
  // Whether `id` is to be written in this transaction.
  bool IsNew(int64_t id);

  // Pages that the database may have, and those in use.
  uint64_t PageLimit() const;
  size_t DefinitionsPerTransaction() const;
  absl::StatusOr<uint64_t> UsedPages();
  uint64_t LogBytes() const;
  absl::Status LimitLog();
  absl::Status MakeRoom();
  // Gives pages beyond the limit back, some at a time: the bound was lowered.
  absl::Status Shrink();
  // Evicts some of the oldest buckets, of those that ended before `ended_before_ns`. False: none.
  absl::StatusOr<bool> EvictOldest(int64_t ended_before_ns);
  // Of the definitions that no bucket uses any more. False: all are swept.
  absl::StatusOr<bool> StartSweep();
  absl::Status SweepStep();
  void BeginEpoch();
  absl::Status BeginEpochIfDue(int64_t now_ns);

  std::string path_;
  uint64_t max_bytes_;
  Database database_;
  Statements statements_;
  SipKey key_;
  int64_t run_ = 0;
  int64_t epoch_ = 1;
  uint64_t epoch_began_pages_ = 0;
  int64_t epoch_began_ns_ = 0;
  int64_t last_bucket_ = 0;
  uint64_t buckets_evicted_ = 0;

  // Committed, and to be committed.
  absl::flat_hash_set<int64_t> known_;
  std::vector<int64_t> pending_;

  // The sweep of definitions last used before `sweep_epoch_`: which table, from which id on.
  int64_t sweep_epoch_ = 0;
  int sweep_table_ = -1;  // -1: none is going on
  int64_t sweep_from_ = INT64_MIN;
  int64_t swept_epoch_ = 0;  // all before this have been
};

}  // namespace lbrd::daemon
