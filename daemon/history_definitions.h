// What the ids in the history's counts stand for, read as needed and kept for one query.
//
// Memory: each definition once; bounded by what a query's groups refer to.
// Thread rules: one owner, that of the connection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "daemon/sample.h"
#include "daemon/sqlite.h"

namespace lbrd::daemon {

struct HistoryThread {
  std::shared_ptr<const ThreadInfo> thread;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> owner;
  std::string cgroup;
  std::string exe;
};

class HistoryDefinitions {
 public:
  // Borrows `database`. `hide_kernel_addresses`: of frames without a name.
  static absl::StatusOr<HistoryDefinitions> Open(Database* database, bool hide_kernel_addresses);

  // The pointers live as long as this. Of an id that is not defined: a made-up "[missing]",
  // counted.
  absl::StatusOr<const HistoryThread*> Thread(int64_t id);
  absl::StatusOr<std::shared_ptr<const StackInfo>> Stack(int64_t id);

  uint64_t missing() const { return missing_; }

 private:
  // A row of `stacks`.
  struct Piece {
    int64_t parent = 0;
    std::string words;
  };
  explicit HistoryDefinitions(bool hide_kernel_addresses)
      : hide_kernel_addresses_(hide_kernel_addresses) {}
  absl::StatusOr<const Piece*> ReadPiece(int64_t id);
  absl::StatusOr<std::shared_ptr<const FrameInfo>> Frame(int64_t id);
  absl::StatusOr<std::shared_ptr<const BinaryInfo>> Binary(int64_t id);

  const bool hide_kernel_addresses_;
  Statement thread_, piece_, frame_, binary_;
  uint64_t missing_ = 0;
  absl::flat_hash_map<int64_t, std::unique_ptr<HistoryThread>> threads_;
  absl::flat_hash_map<int64_t, std::shared_ptr<const StackInfo>> stacks_;
  absl::flat_hash_map<int64_t, std::unique_ptr<Piece>> pieces_;
  absl::flat_hash_map<int64_t, std::shared_ptr<const FrameInfo>> frames_;
  absl::flat_hash_map<int64_t, std::shared_ptr<const BinaryInfo>> binaries_;
};

}  // namespace lbrd::daemon
