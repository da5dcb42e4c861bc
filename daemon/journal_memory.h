// The memory in which an engine leaves to the next one what is to go on: made by the broker, which
// passes it to each engine it starts and never reads it.
//
// A memfd of kJournalBytes, sealed: nobody can make it shorter, so that it can be read without fear
// of SIGBUS, or longer. Of its bytes only those in use take room.
#pragma once

#include <cstddef>
#include <span>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

inline constexpr size_t kJournalBytes = size_t{4} << 20;

// A descriptor, close-on-exec.
absl::StatusOr<int> MakeJournalMemory();
// Maps it, for as long as this process lives. kInvalidArgument: it is not such memory.
absl::StatusOr<std::span<std::byte>> MapJournalMemory(int fd);

}  // namespace lbrd::daemon
