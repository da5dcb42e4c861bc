// SQLite's connections and statements, as little of them as the history needs.
//
// Errors: kDataLoss the file is damaged or is no database; kResourceExhausted no room, on the disk
// or below the database's own bound; kUnavailable locked by somebody else; kDeadlineExceeded
// interrupted; kPermissionDenied cannot be opened or written; kInternal the rest.
//
// Thread rules: a connection and its statements belong to one thread at a time.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lbrd::daemon {

class Statement {
 public:
  Statement() = default;

  // Binds all parameters, from the first on.
  template <typename... Values>
  void Bind(const Values&... values) {
    sqlite3_reset(statement_.get());
    int index = 0;
    (BindOne(++index, values), ...);
  }
  // True: there is a row, to be read by Int() and Text() until the next step.
  absl::StatusOr<bool> Step();
  // Binds, and runs to the end.
  template <typename... Values>
  absl::Status Run(const Values&... values) {
    Bind(values...);
    return RunBound();
  }
  // Columns count from 0. Text is bytes, and lives until the next step.
  int64_t Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  bool IsNull(int column) const {
    return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
  }
  absl::string_view Text(int column) const;
  // Gives its locks back, where its rows were not read to the end.
  void Reset() { sqlite3_reset(statement_.get()); }

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  void BindOne(int index, int64_t value) { sqlite3_bind_int64(statement_.get(), index, value); }
  void BindOne(int index, absl::string_view text);
  // NULL where there is none.
  void BindOne(int index, std::optional<uint32_t> value) {
    value.has_value() ? sqlite3_bind_int64(statement_.get(), index, *value)
                      : sqlite3_bind_null(statement_.get(), index);
  }
  absl::Status RunBound();

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
 public:
  Database() = default;
  // `flags`: SQLITE_OPEN_….
  static absl::StatusOr<Database> Open(const std::string& path, int flags);

  explicit operator bool() const { return connection_ != nullptr; }
  absl::Status Exec(const char* statements);
  absl::StatusOr<Statement> Prepare(absl::string_view statement);
  // The only value of the only row; 0 where there is none.
  absl::StatusOr<int64_t> Value(absl::string_view query);
  sqlite3* get() const { return connection_.get(); }
  // What SQLite has to say of its last call.
  absl::Status Error(int code, absl::string_view what) const;

 private:
  struct CloseConnection {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  std::unique_ptr<sqlite3, CloseConnection> connection_;
};

// Undone at the end of its scope unless Commit() went well.
class Transaction {
 public:
  explicit Transaction(Database* database) : database_(database) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();
  absl::Status Begin();
  absl::Status Commit();

 private:
  Database* const database_;
  bool open_ = false;
};

}  // namespace lbrd::daemon
