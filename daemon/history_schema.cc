#include "daemon/history_schema.h"

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

constexpr int64_t kApplicationId = 0x6c627264;  // "lbrd"
constexpr int64_t kVersion = 1;

// Ids of definitions are keyed hashes of what they define; those of buckets and runs count. Times
// are Unix time in ns. `epoch` is the last in which a definition was used.
constexpr char kTables[] = R"sql(
CREATE TABLE key (k0 INTEGER NOT NULL, k1 INTEGER NOT NULL);
INSERT INTO key VALUES (random(), random());

CREATE TABLE runs (           -- of the daemon
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  begin_ns INTEGER NOT NULL,
  last_ns INTEGER NOT NULL,   -- the end of the last bucket it stored
  clean INTEGER NOT NULL      -- it said that it ended
);
CREATE TABLE losses (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session TEXT NOT NULL,
  begin_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  why TEXT NOT NULL
);
CREATE TABLE buckets (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  epoch INTEGER NOT NULL,
  begin_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL,
  session TEXT NOT NULL,
  session_owner INTEGER NOT NULL,
  event TEXT NOT NULL,
  unit TEXT NOT NULL,
  dropped INTEGER NOT NULL
);
CREATE INDEX buckets_by_end ON buckets (end_ns);
CREATE TABLE counts (
  bucket INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,     -- its last piece
  samples INTEGER NOT NULL,
  weight INTEGER NOT NULL,
  PRIMARY KEY (bucket, thread, stack)
) WITHOUT ROWID;

CREATE TABLE processes (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  pid INTEGER NOT NULL,
  start_ticks INTEGER NOT NULL,
  comm TEXT NOT NULL,
  uid INTEGER,                -- NULL: unknown
  owner INTEGER,              -- NULL: root's alone
  cgroup TEXT NOT NULL,
  exe TEXT NOT NULL
);
CREATE TABLE threads (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  process INTEGER NOT NULL,
  tid INTEGER NOT NULL,
  comm TEXT NOT NULL
);
CREATE TABLE binaries (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  path TEXT NOT NULL,
  build_id TEXT NOT NULL,
  symbols_missing TEXT NOT NULL
);
CREATE TABLE frames (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  binary INTEGER NOT NULL,    -- 0: none
  source INTEGER NOT NULL,
  symbol TEXT NOT NULL,
  offset INTEGER NOT NULL
);
-- Stacks, from the thread's start on, in pieces of up to 8 words of 8 bytes (little-endian), each with
-- the piece before it: so stacks that differ near their leaves share the rest. The first word of the
-- first piece (parent 0) is the verdict, the others are frames.
CREATE TABLE stacks (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  parent INTEGER NOT NULL,
  words BLOB NOT NULL
);
)sql";

}  // namespace

void AppendHistoryWord(int64_t word, std::string* words) {
  for (int shift = 0; shift < 64; shift += 8) {
    words->push_back(static_cast<char>(static_cast<uint64_t>(word) >> shift));
  }
}

int64_t HistoryWordAt(absl::string_view words, size_t index) {
  if (words.size() < 8 * (index + 1)) return 0;
  uint64_t word = 0;
  for (size_t i = 0; i < 8; ++i) {
    word |= uint64_t{static_cast<unsigned char>(words[8 * index + i])} << (8 * i);
  }
  return static_cast<int64_t>(word);
}

absl::Status PrepareHistorySchema(Database* database) {
  // The first look at the file: what is no database, or damaged in its first page, shows here.
  absl::StatusOr<int64_t> application = database->Value("PRAGMA application_id");
  if (!application.ok()) return application.status();
  absl::StatusOr<int64_t> version = database->Value("PRAGMA user_version");
  if (!version.ok()) return version.status();
  absl::StatusOr<int64_t> objects = database->Value("SELECT count(*) FROM sqlite_master");
  if (!objects.ok()) return objects.status();
  const bool fresh = *objects == 0;
  if (!fresh && *application != kApplicationId) {
    return absl::DataLossError("it is another program's database");
  }
  if (!fresh && *version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the history has the format ", *version, ", and this lbrd knows ", kVersion,
                     "; use the lbrd that wrote it, or name another file (--history)"));
  }
  // No fsync but where the writer asks for one; 4 MiB of cache; freed pages can go back to the file
  // system.
  absl::Status set = database->Exec(
      "PRAGMA auto_vacuum=INCREMENTAL;"
      "PRAGMA journal_mode=WAL;"
      "PRAGMA synchronous=NORMAL;"
      "PRAGMA wal_autocheckpoint=0;"
      "PRAGMA temp_store=MEMORY;"
      "PRAGMA cache_size=-4096");
  if (!set.ok() || !fresh) return set;
  Transaction transaction(database);
  if (absl::Status begun = transaction.Begin(); !begun.ok()) return begun;
  if (absl::Status made = database->Exec(kTables); !made.ok()) return made;
  const std::string marks =
      absl::StrCat("PRAGMA application_id=", kApplicationId, ";PRAGMA user_version=", kVersion);
  if (absl::Status marked = database->Exec(marks.c_str()); !marked.ok()) return marked;
  return transaction.Commit();
}

absl::StatusOr<SipKey> ReadHistoryKey(Database* database) {
  absl::StatusOr<Statement> key = database->Prepare("SELECT k0, k1 FROM key");
  if (!key.ok()) return key.status();
  const absl::StatusOr<bool> row = key->Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::DataLossError("the history has no key");
  return SipKey{static_cast<uint64_t>(key->Int(0)), static_cast<uint64_t>(key->Int(1))};
}

}  // namespace lbrd::daemon
