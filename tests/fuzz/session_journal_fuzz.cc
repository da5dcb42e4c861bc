// What an engine that somebody has taken over can leave in the journal for the next one: the first
// byte says where, the rest is what is written there. A record is also written as it should be, so
// that what it holds is reached.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "daemon/session_journal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lbrd::daemon;
  static std::vector<uint64_t> words(kJournalBytes / 8);
  if (size < 2) return 0;
  const std::span<std::byte> memory = std::as_writable_bytes(std::span(words));
  // Records begin at 4096, streams' points in the last half MiB.
  const size_t at = data[0] % 2 == 0 ? 4096 : kJournalBytes - (size_t{1} << 19);
  const size_t bytes = std::min<size_t>(size - 1, 2 * SessionJournal::kRecordBytes);
  std::memcpy(memory.data() + at, data + 1, bytes);
  JournalSlot slot(
      memory.subspan(4096 + 2 * SessionJournal::kRecordBytes, 2 * SessionJournal::kRecordBytes));
  slot.Write({reinterpret_cast<const char*>(data + 1), std::min(size - 1, slot.capacity())});
  {
    SessionJournal journal(memory);
    for (const SessionJournal::LeftSession& left : journal.LeftSessions()) {
      if (left.record.id() == 0 || left.place >= SessionJournal::kSessions) std::abort();
      // Frees its place.
      journal.TakeSession(left);
    }
    for (const SessionJournal::LeftStream& left : journal.LeftStreams()) journal.TakeStream(left);
  }
  SessionJournal journal(memory);
  if (!journal.LeftSessions().empty() || !journal.LeftStreams().empty()) std::abort();
  return 0;
}
