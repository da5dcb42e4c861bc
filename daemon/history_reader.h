// Answers questions from the history's database: one consistent view of it, whatever is written
// meanwhile.
//
// Bounds: kMaxGroups groups in memory (about 64 MiB); kMaxSeconds, since a reader holds up the
// log; kMaxRows rows in the answer.
//
// Thread rules: any thread; each call opens a connection of its own, which only reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/history_query.h"

namespace lbrd::daemon {

inline constexpr size_t kMaxHistoryGroups = size_t{1} << 19;
inline constexpr size_t kMaxHistoryRows = size_t{1} << 18;
inline constexpr size_t kMaxHistoryGaps = 64;
inline constexpr int kMaxHistoryQuerySeconds = 20;

// kResourceExhausted, kDeadlineExceeded: too much was asked; kDataLoss: the file is damaged;
// kPermissionDenied: it cannot be read.
absl::StatusOr<HistoryAnswer> QueryHistory(const std::string& path, const HistoryQuery& query);

}  // namespace lbrd::daemon
