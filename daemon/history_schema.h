// The history's database: its tables, and how a file becomes one. See docs/design/history.md.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/siphash.h"
#include "daemon/sqlite.h"

namespace lbrd::daemon {

// Of a row of `stacks`: 8 words.
inline constexpr size_t kHistoryPieceBytes = 64;
void AppendHistoryWord(int64_t word, std::string* words);
// The word at `index`; 0 beyond the end.
int64_t HistoryWordAt(absl::string_view words, size_t index);

// Sets the connection of the one writer up, and makes the tables of a new file. kDataLoss: the file
// is damaged, or another program's; kFailedPrecondition: a newer lbrd's.
absl::Status PrepareHistorySchema(Database* database);
// The key of this history's content ids.
absl::StatusOr<SipKey> ReadHistoryKey(Database* database);

}  // namespace lbrd::daemon
