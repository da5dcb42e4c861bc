#include "daemon/sqlite.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

bool NoRoom(int system_errno) {
  return system_errno == ENOSPC || system_errno == EFBIG || system_errno == EDQUOT;
}

absl::StatusCode CodeOf(int result, int system_errno) {
  switch (result & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_IOERR:
      // Without an error of the system's a write fell short: the disk or the file may not grow.
      return NoRoom(system_errno) || (result == SQLITE_IOERR_WRITE && system_errno == 0)
                 ? absl::StatusCode::kResourceExhausted
                 : absl::StatusCode::kInternal;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_INTERRUPT:
      return absl::StatusCode::kDeadlineExceeded;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status ErrorOf(sqlite3* connection, int result, absl::string_view what) {
  const int system_errno = connection == nullptr ? 0 : sqlite3_system_errno(connection);
  std::string why = connection == nullptr ? sqlite3_errstr(result) : sqlite3_errmsg(connection);
  if ((result & 0xff) == SQLITE_IOERR && system_errno != 0) {
    why = std::strerror(system_errno);
  } else if (result == SQLITE_IOERR_WRITE) {
    why = "a write fell short: no room on the disk, or a limit on the file's size";
  }
  return absl::Status(CodeOf(result, system_errno), absl::StrCat(what, ": ", why));
}

}  // namespace

void Statement::BindOne(int index, absl::string_view text) {
  // As text where SQLite's own tools are to show it; SQLite takes any bytes.
  sqlite3_bind_text64(statement_.get(), index, text.data() == nullptr ? "" : text.data(),
                      text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

absl::StatusOr<bool> Statement::Step() {
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return ErrorOf(sqlite3_db_handle(statement_.get()), result, "database");
}

absl::Status Statement::RunBound() {
  while (true) {
    const absl::StatusOr<bool> row = Step();
    if (row.ok() && *row) continue;
    sqlite3_reset(statement_.get());
    return row.status();
  }
}

absl::string_view Statement::Text(int column) const {
  const auto* text = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  if (text == nullptr) return {};
  return {text, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

absl::StatusOr<Database> Database::Open(const std::string& path, int flags) {
  sqlite3* connection = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &connection, flags, nullptr);
  Database database;
  database.connection_.reset(connection);
  if (result != SQLITE_OK) return ErrorOf(connection, result, absl::StrCat("cannot open ", path));
  sqlite3_extended_result_codes(connection, 1);
  return database;
}

absl::Status Database::Exec(const char* statements) {
  const int result = sqlite3_exec(connection_.get(), statements, nullptr, nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus() : Error(result, "database");
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view text) {
  sqlite3_stmt* prepared = nullptr;
  const int result = sqlite3_prepare_v2(connection_.get(), text.data(),
                                        static_cast<int>(text.size()), &prepared, nullptr);
  if (result != SQLITE_OK) return Error(result, "database");
  Statement statement;
  statement.statement_.reset(prepared);
  return statement;
}

absl::StatusOr<int64_t> Database::Value(absl::string_view query) {
  absl::StatusOr<Statement> statement = Prepare(query);
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->Int(0) : 0;
}

absl::Status Database::Error(int code, absl::string_view what) const {
  return ErrorOf(connection_.get(), code, what);
}

Transaction::~Transaction() {
  // SQLite may have undone it already, where there was no room; then this fails, which is well.
  if (open_) database_->Exec("ROLLBACK").IgnoreError();
}

absl::Status Transaction::Begin() {
  const absl::Status begun = database_->Exec("BEGIN IMMEDIATE");
  open_ = begun.ok();
  return begun;
}

absl::Status Transaction::Commit() {
  const absl::Status committed = database_->Exec("COMMIT");
  if (committed.ok()) open_ = false;
  return committed;
}

}  // namespace lbrd::daemon
