#include "daemon/history_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "daemon/history_schema.h"

namespace lbrd::daemon {
namespace {

constexpr uint64_t kPageBytes = 4096;
// Shared memory of SQLite's log, and room for its growth.
constexpr uint64_t kSpareBytes = 64 << 10;
// The more go together, the fewer pages are written again and again.
constexpr size_t kMostDefinitionsPerTransaction = 2048;
constexpr size_t kLeastDefinitionsPerTransaction = 512;
// Their ids are hashes, so each may touch a page of its own, and split it.
constexpr uint64_t kBytesPerDefinition = 6 << 10;
constexpr uint64_t kEvictedRowsPerTransaction = 4096;
constexpr int kEvictedBucketsPerTransaction = 32;
constexpr int kSweptRowsPerTransaction = 2048;
constexpr int kShrinkPages = 256;
constexpr int64_t kEpochNs = int64_t{3600} * 1'000'000'000;
// Of the pages that there may be.
constexpr double kScarce = 0.9;
constexpr double kEnough = 0.85;
constexpr double kEpochGrowth = 1.0 / 16;
// More than the steps that empty the largest history are not taken at once.
constexpr int kMaxRoomSteps = 4096;
constexpr int kMaxLogBusyMs = 1000;

// In the order of the sweep.
constexpr const char* kDefinitions[] = {"stacks", "frames", "binaries", "threads", "processes"};

int64_t Clamp(uint64_t value) {
  return static_cast<int64_t>(
      std::min<uint64_t>(value, static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
}

// 0 stands for none.
int64_t ContentId(SipHasher* hasher) {
  const auto id = static_cast<int64_t>(hasher->Finish());
  return id == 0 ? 1 : id;
}

SipHasher HasherOf(const SipKey& key, char kind) {
  SipHasher hasher(key);
  hasher.AddInt(static_cast<unsigned char>(kind));
  return hasher;
}

void AddOptional(std::optional<uint32_t> value, SipHasher* hasher) {
  hasher->AddInt(value.has_value() ? *value : UINT64_MAX);
}

}  // namespace

absl::StatusOr<HistoryWriter> HistoryWriter::Open(const std::string& path, uint64_t max_bytes,
                                                  int64_t now_ns) {
  // Made here, so that it is never open to others, not even briefly; SQLite gives the log its mode.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  close(fd);
  absl::StatusOr<Database> database =
      Database::Open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX);
  if (!database.ok()) return database.status();
  HistoryWriter writer(path, std::max(max_bytes, kLeastBytes), *std::move(database));
  if (absl::Status begun = writer.Begin(now_ns); !begun.ok()) return begun;
  return writer;
}

absl::Status HistoryWriter::Begin(int64_t now_ns) {
  sqlite3_busy_timeout(database_.get(), kMaxLogBusyMs);
  if (absl::Status prepared = PrepareHistorySchema(&database_); !prepared.ok()) return prepared;
  const absl::StatusOr<SipKey> key = ReadHistoryKey(&database_);
  if (!key.ok()) return key.status();
  key_ = *key;
  if (absl::Status prepared = PrepareStatements(); !prepared.ok()) return prepared;
  const std::string limit = absl::StrCat("PRAGMA max_page_count=", PageLimit());
  if (absl::Status set = database_.Exec(limit.c_str()); !set.ok()) return set;
  const absl::StatusOr<int64_t> epoch = database_.Value("SELECT max(epoch) FROM buckets");
  if (!epoch.ok()) return epoch.status();
  epoch_ = std::max<int64_t>(*epoch, 1);
  epoch_began_ns_ = now_ns;
  const absl::StatusOr<int64_t> last = database_.Value("SELECT max(id) FROM buckets");
  if (!last.ok()) return last.status();
  last_bucket_ = *last;
  if (absl::Status room = MakeRoom(); !room.ok()) return room;
  const absl::StatusOr<uint64_t> used = UsedPages();
  if (!used.ok()) return used.status();
  epoch_began_pages_ = *used;
  absl::StatusOr<Statement> run =
      database_.Prepare("INSERT INTO runs (begin_ns, last_ns, clean) VALUES (?1, ?1, 0)");
  if (!run.ok()) return run.status();
  if (absl::Status begun = run->Run(now_ns); !begun.ok()) return begun;
  run_ = sqlite3_last_insert_rowid(database_.get());
  return absl::OkStatus();
}

absl::Status HistoryWriter::PrepareStatements() {
  const auto prepare = [this](Statement* statement, absl::string_view text) -> absl::Status {
    absl::StatusOr<Statement> prepared = database_.Prepare(text);
    if (prepared.ok()) *statement = *std::move(prepared);
    return prepared.status();
  };
  // A definition that is there already is only marked as used in this epoch.
  const auto define = [](absl::string_view table, absl::string_view columns,
                         absl::string_view values) {
    return absl::StrCat("INSERT INTO ", table, " (id, epoch, ", columns, ") VALUES (?, ?, ", values,
                        ") ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch "
                        "WHERE epoch < excluded.epoch");
  };
  Statements& all = statements_;
  const std::pair<Statement*, std::string> texts[] = {
      {&all.binary, define("binaries", "path, build_id, symbols_missing", "?, ?, ?")},
      {&all.frame, define("frames", "binary, source, symbol, offset", "?, ?, ?, ?")},
      {&all.stack, define("stacks", "parent, words", "?, CAST(? AS BLOB)")},
      {&all.process, define("processes", "pid, start_ticks, comm, uid, owner, cgroup, exe",
                            "?, ?, ?, ?, ?, ?, ?")},
      {&all.thread, define("threads", "process, tid, comm", "?, ?, ?")},
      {&all.bucket,
       "INSERT INTO buckets (epoch, begin_ns, end_ns, session, session_owner, event, unit, dropped)"
       " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"},
      {&all.count, "INSERT INTO counts VALUES (?, ?, ?, ?, ?)"},
      {&all.run, "UPDATE runs SET last_ns = max(last_ns, ?2), clean = ?3 WHERE id = ?1"},
      {&all.loss,
       "INSERT INTO losses (session, begin_ns, end_ns, samples, why) VALUES (?, ?, ?, ?, ?)"},
      {&all.oldest, "SELECT id, end_ns, epoch, begin_ns FROM buckets ORDER BY id LIMIT 1"},
      {&all.forget_counts, "DELETE FROM counts WHERE bucket = ?"},
      {&all.forget_bucket, "DELETE FROM buckets WHERE id = ?"},
      {&all.forget_losses,
       "DELETE FROM losses WHERE end_ns < ?1 OR id <= (SELECT max(id) - 4096 FROM losses)"},
      {&all.forget_runs, "DELETE FROM runs WHERE (last_ns < ?1 AND id < ?2) OR id <= ?2 - 4096"},
  };
  for (const auto& [statement, text] : texts) {
    if (absl::Status prepared = prepare(statement, text); !prepared.ok()) return prepared;
  }
  for (size_t i = 0; i < std::size(kDefinitions); ++i) {
    absl::Status prepared =
        prepare(&all.sweep_end[i],
                absl::StrCat("SELECT max(id), count(*) FROM (SELECT id FROM ", kDefinitions[i],
                             " WHERE id >= ? ORDER BY id LIMIT ", kSweptRowsPerTransaction, ")"));
    if (!prepared.ok()) return prepared;
    prepared = prepare(&all.sweep[i], absl::StrCat("DELETE FROM ", kDefinitions[i],
                                                   " WHERE id BETWEEN ? AND ? AND epoch < ?"));
    if (!prepared.ok()) return prepared;
  }
  return absl::OkStatus();
}

bool HistoryWriter::IsNew(int64_t id) {
  if (known_.size() >= kMaxKnown) {
    known_.clear();
    known_.insert(pending_.begin(), pending_.end());
  }
  if (!known_.insert(id).second) return false;
  pending_.push_back(id);
  return true;
}

absl::StatusOr<int64_t> HistoryWriter::DefineBinary(const BinaryInfo* binary) {
  if (binary == nullptr) return 0;
  SipHasher hasher = HasherOf(key_, 'b');
  hasher.AddText(binary->path);
  hasher.AddText(binary->build_id);
  hasher.AddText(binary->symbols_missing);
  const int64_t id = ContentId(&hasher);
  if (!IsNew(id)) return id;
  const absl::Status done =
      statements_.binary.Run(id, epoch_, binary->path, binary->build_id, binary->symbols_missing);
  if (!done.ok()) return done;
  return id;
}

absl::StatusOr<int64_t> HistoryWriter::DefineFrame(const FrameInfo& frame) {
  const absl::StatusOr<int64_t> binary = DefineBinary(frame.binary.get());
  if (!binary.ok()) return binary.status();
  // Not the address: it is another in each process and after each boot, and says nothing that
  // binary, symbol and offset do not.
  SipHasher hasher = HasherOf(key_, 'f');
  hasher.AddInt(static_cast<uint64_t>(*binary));
  hasher.AddInt(static_cast<uint64_t>(frame.source));
  hasher.AddText(frame.symbol);
  hasher.AddInt(frame.offset);
  const int64_t id = ContentId(&hasher);
  if (!IsNew(id)) return id;
  const absl::Status done =
      statements_.frame.Run(id, epoch_, *binary, static_cast<int64_t>(frame.source), frame.symbol,
                            static_cast<int64_t>(frame.offset));
  if (!done.ok()) return done;
  return id;
}

absl::StatusOr<int64_t> HistoryWriter::DefineStack(const StackInfo& stack) {
  std::string words;
  AppendHistoryWord(
      static_cast<int64_t>(stack.verdict.state) << 8 | static_cast<int64_t>(stack.verdict.reason),
      &words);
  for (auto frame = stack.frames.rbegin(); frame != stack.frames.rend(); ++frame) {
    const absl::StatusOr<int64_t> id = DefineFrame(**frame);
    if (!id.ok()) return id.status();
    AppendHistoryWord(*id, &words);
  }
  int64_t parent = 0;
  for (absl::string_view rest = words; !rest.empty();) {
    const absl::string_view piece = rest.substr(0, kHistoryPieceBytes);
    rest.remove_prefix(piece.size());
    SipHasher hasher = HasherOf(key_, 's');
    hasher.AddInt(static_cast<uint64_t>(parent));
    hasher.AddText(piece);
    const int64_t id = ContentId(&hasher);
    if (IsNew(id)) {
      if (absl::Status done = statements_.stack.Run(id, epoch_, parent, piece); !done.ok()) {
        return done;
      }
    }
    parent = id;
  }
  return parent;
}

absl::StatusOr<int64_t> HistoryWriter::DefineThread(const HistoryEntry& entry) {
  static const ProcessOrigin kUnknown;
  const ProcessOrigin& facts = entry.process != nullptr ? *entry.process : kUnknown;
  const ThreadInfo& thread = *entry.thread;
  SipHasher hasher = HasherOf(key_, 'p');
  hasher.AddInt(static_cast<uint64_t>(thread.pid));
  hasher.AddInt(facts.start_ticks);
  hasher.AddText(thread.process_comm);
  AddOptional(facts.uid, &hasher);
  AddOptional(facts.owner, &hasher);
  hasher.AddText(facts.cgroup);
  hasher.AddText(facts.exe);
  const int64_t process = ContentId(&hasher);
  if (IsNew(process)) {
    const absl::Status done = statements_.process.Run(
        process, epoch_, thread.pid, Clamp(facts.start_ticks), thread.process_comm, facts.uid,
        facts.owner, facts.cgroup, facts.exe);
    if (!done.ok()) return done;
  }
  hasher = HasherOf(key_, 't');
  hasher.AddInt(static_cast<uint64_t>(process));
  hasher.AddInt(static_cast<uint64_t>(thread.tid));
  hasher.AddText(thread.comm);
  const int64_t id = ContentId(&hasher);
  if (!IsNew(id)) return id;
  const absl::Status done = statements_.thread.Run(id, epoch_, process, thread.tid, thread.comm);
  if (!done.ok()) return done;
  return id;
}

absl::Status HistoryWriter::StoreInTransactions(const HistoryBucket& bucket,
                                                Transaction* transaction) {
  if (absl::Status begun = transaction->Begin(); !begun.ok()) return begun;
  using Row = std::tuple<int64_t, int64_t, uint64_t, uint64_t>;  // thread, stack, samples, weight
  std::vector<Row> rows;
  rows.reserve(bucket.entries.size());
  for (const HistoryEntry& entry : bucket.entries) {
    const absl::StatusOr<int64_t> stack = DefineStack(*entry.stack);
    if (!stack.ok()) return stack.status();
    const absl::StatusOr<int64_t> thread = DefineThread(entry);
    if (!thread.ok()) return thread.status();
    rows.emplace_back(*thread, *stack, entry.samples, entry.weight);
    if (pending_.size() < DefinitionsPerTransaction()) continue;
    if (absl::Status done = transaction->Commit(); !done.ok()) return done;
    pending_.clear();
    if (absl::Status limited = LimitLog(); !limited.ok()) return limited;
    if (absl::Status begun = transaction->Begin(); !begun.ok()) return begun;
  }
  absl::Status done = transaction->Commit();
  if (done.ok()) pending_.clear();
  // The fsync of this one is that of all before it: they are in the same log.
  if (done.ok()) done = database_.Exec("PRAGMA synchronous=FULL");
  if (done.ok()) done = transaction->Begin();
  if (!done.ok()) return done;
  done = statements_.bucket.Run(epoch_, bucket.begin_ns, bucket.end_ns, bucket.session,
                                int64_t{bucket.session_owner}, bucket.event, bucket.unit,
                                Clamp(bucket.dropped));
  if (!done.ok()) return done;
  const int64_t id = sqlite3_last_insert_rowid(database_.get());
  // In the table's order, and what is the same by content as one.
  std::sort(rows.begin(), rows.end());
  for (size_t i = 0; i < rows.size();) {
    auto [thread, stack, samples, weight] = rows[i];
    for (++i; i < rows.size() && std::get<0>(rows[i]) == thread && std::get<1>(rows[i]) == stack;
         ++i) {
      samples += std::get<2>(rows[i]);
      weight += std::get<3>(rows[i]);
    }
    done = statements_.count.Run(id, thread, stack, Clamp(samples), Clamp(weight));
    if (!done.ok()) return done;
  }
  done = statements_.run.Run(run_, bucket.end_ns, 0);
  if (done.ok()) done = transaction->Commit();
  if (!done.ok()) return done;
  last_bucket_ = id;
  return absl::OkStatus();
}

absl::Status HistoryWriter::StoreOnce(const HistoryBucket& bucket) {
  if (absl::Status limited = LimitLog(); !limited.ok()) return limited;
  absl::Status stored;
  {
    Transaction transaction(&database_);
    stored = StoreInTransactions(bucket, &transaction);
  }
  for (const int64_t id : pending_) known_.erase(id);  // none where all went well
  pending_.clear();
  const absl::Status relaxed = database_.Exec("PRAGMA synchronous=NORMAL");
  return stored.ok() ? relaxed : stored;
}

absl::Status HistoryWriter::Store(const HistoryBucket& bucket) {
  if (absl::Status room = MakeRoom(); !room.ok()) return room;
  if (absl::Status epoch = BeginEpochIfDue(bucket.end_ns); !epoch.ok()) return epoch;
  absl::Status stored = StoreOnce(bucket);
  if (!absl::IsResourceExhausted(stored)) return stored;
  // The bound, or the disk? Only the first can be helped here.
  const absl::StatusOr<uint64_t> used = UsedPages();
  if (!used.ok() || *used < kScarce * static_cast<double>(PageLimit())) return stored;
  if (absl::Status room = MakeRoom(); !room.ok()) return room;
  stored = StoreOnce(bucket);
  if (!absl::IsResourceExhausted(stored)) return stored;
  return absl::OutOfRangeError("it does not fit into the history's bound (--history-bytes)");
}

absl::Status HistoryWriter::StoreLoss(const HistoryLoss& loss) {
  if (absl::Status limited = LimitLog(); !limited.ok()) return limited;
  return statements_.loss.Run(loss.session, loss.begin_ns, loss.end_ns, Clamp(loss.samples),
                              loss.why);
}

absl::Status HistoryWriter::EndRun(int64_t now_ns) { return statements_.run.Run(run_, now_ns, 1); }

absl::Status HistoryWriter::Check() {
  absl::StatusOr<Statement> check = database_.Prepare("PRAGMA quick_check(1)");
  if (!check.ok()) return check.status();
  const absl::StatusOr<bool> row = check->Step();
  if (!row.ok()) return row.status();
  if (*row && check->Text(0) == "ok") return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("database: ", std::string(check->Text(0))));
}

uint64_t HistoryWriter::PageLimit() const {
  return (max_bytes_ / 4 * 3 - kSpareBytes) / kPageBytes;
}

size_t HistoryWriter::DefinitionsPerTransaction() const {
  return std::clamp<size_t>(max_bytes_ >> 15, kLeastDefinitionsPerTransaction,
                            kMostDefinitionsPerTransaction);
}

absl::StatusOr<uint64_t> HistoryWriter::UsedPages() {
  const absl::StatusOr<int64_t> all = database_.Value("PRAGMA page_count");
  if (!all.ok()) return all.status();
  const absl::StatusOr<int64_t> free = database_.Value("PRAGMA freelist_count");
  if (!free.ok()) return free.status();
  return static_cast<uint64_t>(*all - *free);
}

uint64_t HistoryWriter::LogBytes() const {
  struct stat status;
  const std::string log = path_ + "-wal";
  return stat(log.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

absl::Status HistoryWriter::LimitLog() {
  const uint64_t most = max_bytes_ / 4;
  const uint64_t bytes = LogBytes();
  const uint64_t next = DefinitionsPerTransaction() * kBytesPerDefinition;
  if (bytes + next <= most / 2) return absl::OkStatus();
  const absl::StatusOr<int64_t> busy = database_.Value("PRAGMA wal_checkpoint(TRUNCATE)");
  if (!busy.ok()) return busy.status();
  if (*busy == 0 || bytes + next <= most) return absl::OkStatus();
  return absl::UnavailableError("a long query holds the history's log up");
}

void HistoryWriter::BeginEpoch() {
  ++epoch_;
  known_.clear();
}

absl::Status HistoryWriter::BeginEpochIfDue(int64_t now_ns) {
  const absl::StatusOr<uint64_t> used = UsedPages();
  if (!used.ok()) return used.status();
  const auto grown = static_cast<double>(*used) - static_cast<double>(epoch_began_pages_);
  // What was evicted meanwhile does not count.
  epoch_began_pages_ = std::min(epoch_began_pages_, *used);
  if (grown < kEpochGrowth * static_cast<double>(PageLimit()) &&
      now_ns < epoch_began_ns_ + kEpochNs) {
    return absl::OkStatus();
  }
  BeginEpoch();
  epoch_began_pages_ = *used;
  epoch_began_ns_ = now_ns;
  return absl::OkStatus();
}

absl::Status HistoryWriter::MakeRoom() {
  const auto limit = static_cast<double>(PageLimit());
  absl::StatusOr<uint64_t> used = UsedPages();
  if (!used.ok()) return used.status();
  if (static_cast<double>(*used) < kScarce * limit) return absl::OkStatus();
  bool emptied = false;
  for (int step = 0; step < kMaxRoomSteps; ++step) {
    if (static_cast<double>(*used) <= kEnough * limit) break;
    if (sweep_table_ >= 0) {
      if (absl::Status swept = SweepStep(); !swept.ok()) return swept;
    } else {
      const absl::StatusOr<bool> evicted = EvictOldest(INT64_MAX);
      if (!evicted.ok()) return evicted.status();
      if (!*evicted) {
        // Nothing is left but definitions, and no bucket uses any.
        if (emptied) break;
        emptied = true;
        BeginEpoch();
        const absl::StatusOr<bool> started = StartSweep();
        if (!started.ok()) return started.status();
      }
    }
    if (absl::Status limited = LimitLog(); !limited.ok()) return limited;
    used = UsedPages();
    if (!used.ok()) return used.status();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HistoryWriter::EvictOldest(int64_t ended_before_ns) {
  Transaction transaction(&database_);
  if (absl::Status begun = transaction.Begin(); !begun.ok()) return begun;
  uint64_t rows = 0;
  int buckets = 0;
  int64_t oldest_begin_ns = 0;
  while (true) {
    statements_.oldest.Bind();
    const absl::StatusOr<bool> row = statements_.oldest.Step();
    if (!row.ok()) return row.status();
    const int64_t id = *row ? statements_.oldest.Int(0) : 0;
    oldest_begin_ns = *row ? statements_.oldest.Int(3) : INT64_MAX;
    const bool old = *row && statements_.oldest.Int(1) < ended_before_ns;
    statements_.oldest.Reset();
    if (!old || rows >= kEvictedRowsPerTransaction || buckets >= kEvictedBucketsPerTransaction) {
      break;
    }
    if (absl::Status gone = statements_.forget_counts.Run(id); !gone.ok()) return gone;
    rows += static_cast<uint64_t>(sqlite3_changes(database_.get()));
    if (absl::Status gone = statements_.forget_bucket.Run(id); !gone.ok()) return gone;
    ++buckets;
  }
  if (buckets == 0) return false;
  if (oldest_begin_ns != INT64_MAX) {
    absl::Status gone = statements_.forget_losses.Run(oldest_begin_ns);
    if (gone.ok()) gone = statements_.forget_runs.Run(oldest_begin_ns, run_);
    if (!gone.ok()) return gone;
  }
  if (absl::Status done = transaction.Commit(); !done.ok()) return done;
  buckets_evicted_ += static_cast<uint64_t>(buckets);
  const absl::StatusOr<bool> started = StartSweep();
  if (!started.ok()) return started.status();
  return true;
}

absl::StatusOr<bool> HistoryWriter::StartSweep() {
  if (sweep_table_ >= 0) return true;
  statements_.oldest.Bind();
  const absl::StatusOr<bool> row = statements_.oldest.Step();
  if (!row.ok()) return row.status();
  const int64_t oldest_epoch = *row ? statements_.oldest.Int(2) : epoch_;
  statements_.oldest.Reset();
  if (oldest_epoch <= swept_epoch_) return false;
  sweep_epoch_ = oldest_epoch;
  sweep_table_ = 0;
  sweep_from_ = INT64_MIN;
  return true;
}

absl::Status HistoryWriter::SweepStep() {
  Statement& end = statements_.sweep_end[sweep_table_];
  end.Bind(sweep_from_);
  const absl::StatusOr<bool> row = end.Step();
  if (!row.ok()) return row.status();
  const int64_t last = end.Int(0);
  const int64_t rows = end.Int(1);
  end.Reset();
  if (rows > 0) {
    absl::Status swept = statements_.sweep[sweep_table_].Run(sweep_from_, last, sweep_epoch_);
    if (!swept.ok()) return swept;
  }
  if (rows == kSweptRowsPerTransaction && last != INT64_MAX) {
    sweep_from_ = last + 1;
    return absl::OkStatus();
  }
  sweep_from_ = INT64_MIN;
  if (++sweep_table_ == static_cast<int>(std::size(kDefinitions))) {
    sweep_table_ = -1;
    swept_epoch_ = sweep_epoch_;
  }
  return absl::OkStatus();
}

absl::Status HistoryWriter::Shrink() {
  const absl::StatusOr<int64_t> pages = database_.Value("PRAGMA page_count");
  if (!pages.ok()) return pages.status();
  const auto limit = static_cast<int64_t>(PageLimit());
  if (*pages <= limit) return absl::OkStatus();
  // The limit takes effect once the file is below it.
  const std::string shrink =
      absl::StrCat("PRAGMA incremental_vacuum(", std::min<int64_t>(*pages - limit, kShrinkPages),
                   ");PRAGMA max_page_count=", limit);
  return database_.Exec(shrink.c_str());
}

absl::Status HistoryWriter::Tidy(int64_t oldest_ns) {
  const absl::StatusOr<bool> evicted = EvictOldest(oldest_ns);
  if (!evicted.ok()) return evicted.status();
  if (sweep_table_ >= 0) {
    if (absl::Status swept = SweepStep(); !swept.ok()) return swept;
  }
  if (absl::Status shrunk = Shrink(); !shrunk.ok()) return shrunk;
  return LimitLog();
}

HistoryWriterStats HistoryWriter::stats() const {
  struct stat status;
  const uint64_t bytes =
      stat(path_.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
  return {.bytes = bytes + LogBytes(),
          .buckets_evicted = buckets_evicted_,
          .last_bucket = last_bucket_};
}

}  // namespace lbrd::daemon
