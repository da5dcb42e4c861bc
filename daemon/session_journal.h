// What an engine leaves to the next one: its sessions, what they have counted, and how far each of
// their streams was sent. docs/design/survival.md
//
// A place in the memory belongs to one session, or one stream, from Add…() until its entry goes.
// Entries are written as things change, each write whole or not at all (daemon/journal_slot.h), and
// without a system call. What an engine finds was written by one that may have been taken over:
// what Left…() gives has the right form, and nothing else is known of it.
//
// Memory: kJournalBytes, of which places that were never used take nothing. Thread rules:
// thread-safe. Lock order: an entry's mutex is held while its callbacks run, and before
// nothing else; mutex_ is a leaf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/journal_memory.h"
#include "daemon/journal_slot.h"
#include "daemon/session_figures.h"
#include "daemon/session_journal.pb.h"

namespace lbrd::daemon {

// How far a stream has come: what its client may have of it.
struct StreamPoint {
  static constexpr size_t kNameBytes = 32;
  char name[kNameBytes] = {};  // lower-case hex
  uint64_t session_id = 0;
  uint64_t sequence = 0;  // of the last message that was sent, or is being sent
  uint64_t samples = 0;   // in all messages
  uint64_t begin_ns = 0;  // CLOCK_MONOTONIC
  uint64_t last_ns = 0;   // of the youngest sample sent; 0: none was
  uint64_t dropped = 0;
  uint64_t missing = 0;
};

class SessionJournal {
 public:
  static constexpr size_t kSessions = 512;
  static constexpr size_t kStreams = 1024;
  static constexpr size_t kRecordBytes = 3072;  // of one copy of a session's record

  class SessionEntry;
  class StreamEntry;

  struct LeftSession {
    size_t place = 0;
    journal::SessionRecord record;
    SessionFigures figures;
  };
  struct LeftStream {
    size_t place = 0;
    StreamPoint point;
  };

  // `memory`: kJournalBytes; it must outlive this and all entries.
  explicit SessionJournal(std::span<std::byte> memory);

  // What the engine before left. Places whose contents make no sense are freed.
  std::vector<LeftSession> LeftSessions();
  std::vector<LeftStream> LeftStreams();
  // Takes over what was left there: it stays until it is written over.
  std::shared_ptr<SessionEntry> TakeSession(const LeftSession& left);
  std::unique_ptr<StreamEntry> TakeStream(const LeftStream& left);

  // nullptr: all places are taken.
  std::shared_ptr<SessionEntry> AddSession();
  std::unique_ptr<StreamEntry> AddStream();

  // Of the engine before, when this one starts: how many in a row, that one among them, crashed
  // (by a signal other than SIGKILL, or an exit code) within kShortLife.
  static constexpr uint64_t kShortLifeNs = 10'000'000'000;
  uint64_t BeginLife(uint64_t now_ns, bool crashed);

 private:
  struct Life {
    uint64_t begin_ns = 0;
    uint64_t crashes = 0;
  };

  std::span<std::byte> RecordMemory(size_t place) const;
  std::span<std::byte> FiguresMemory(size_t place) const;
  std::span<std::byte> StreamMemory(size_t place) const;
  void FreeSession(size_t place);
  void FreeStream(size_t place);

  const std::span<std::byte> memory_;
  absl::Mutex mutex_;
  std::vector<bool> sessions_taken_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> streams_taken_ ABSL_GUARDED_BY(mutex_);
};

class SessionJournal::SessionEntry {
 public:
  SessionEntry(SessionJournal* journal, size_t place, journal::SessionRecord record);
  SessionEntry(const SessionEntry&) = delete;
  SessionEntry& operator=(const SessionEntry&) = delete;
  // The session is gone.
  ~SessionEntry();

  uint64_t id() const;
  // False: the record is too long to be kept, and the session is left out from now on.
  bool Update(const std::function<void(journal::SessionRecord*)>& change);
  void WriteFigures(const std::function<SessionFigures()>& figures);
  // The session is deleted: nothing is written any more.
  void Erase();

 private:
  void EraseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SessionJournal& journal_;
  const size_t place_;
  mutable absl::Mutex mutex_;
  bool erased_ ABSL_GUARDED_BY(mutex_) = false;
  journal::SessionRecord record_ ABSL_GUARDED_BY(mutex_);
  JournalSlot record_slot_ ABSL_GUARDED_BY(mutex_);
  JournalSlot figures_slot_ ABSL_GUARDED_BY(mutex_);
};

// Thread rules: one thread at a time.
class SessionJournal::StreamEntry {
 public:
  StreamEntry(SessionJournal* journal, size_t place);
  StreamEntry(const StreamEntry&) = delete;
  StreamEntry& operator=(const StreamEntry&) = delete;
  // Nobody comes back for it.
  ~StreamEntry();

  void Write(const StreamPoint& point);

 private:
  SessionJournal& journal_;
  const size_t place_;
  JournalSlot slot_;
};

}  // namespace lbrd::daemon
