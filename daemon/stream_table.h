// Streams whose client has lost its connection, kept for a while until it comes back; and who holds
// the sessions that are bound to their clients.
//
// A parked stream goes on taking samples (and loses the newest when it is full, counted, as any
// slow reader's does). When nobody comes for it in kPatience it is given up.
//
// A stream that an engine before this one was sending waits in the same way, as a point: it is made
// when its client comes back, and takes no memory before.
//
// A bound session ends when nobody holds it: no stream, parked ones included, and no watcher.
//
// Memory: at most kMaxParked streams of 12 MiB; the longest parked is given up for the next.
// Thread rules: thread-safe. A thread of its own (`lbrd-streams`) gives up what is due. Lock order:
// mutex_ is a leaf; sessions are called without it.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/resumable_stream.h"
#include "daemon/session.h"

namespace lbrd::daemon {

// A stream, and the session it is of.
struct SessionStream {
  std::shared_ptr<Session> session;
  std::unique_ptr<ResumableStream> stream;
};

class StreamTable {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(10);
  static constexpr size_t kMaxParked = 16;

  explicit StreamTable(absl::Duration patience = kPatience);
  StreamTable(const StreamTable&) = delete;
  StreamTable& operator=(const StreamTable&) = delete;
  ~StreamTable();

  // Where streams are kept for the next engine. Before anything else; nullptr: nowhere.
  void set_journal(SessionJournal* journal) { journal_ = journal; }
  // A stream of an engine that died, whose client may come back; `why` it broke.
  void Expect(const std::shared_ptr<Session>& session, const SessionJournal::LeftStream& left,
              std::string why);

  // A new stream of the session.
  absl::StatusOr<SessionStream> Open(const std::shared_ptr<Session>& session);
  // Its client is gone, perhaps to come back.
  void Park(SessionStream stream);
  // Its client is back. Waits a moment for whoever served the old connection. kNotFound.
  absl::StatusOr<SessionStream> Take(const std::string& session, const std::string& name);
  // Its client has all of it.
  static void Close(SessionStream stream);
  // The session is deleted: nobody comes back.
  void Forget(const std::string& session);
  // Ends a bound session if nobody holds it when kPatience has passed.
  void Guard(const std::shared_ptr<Session>& session);

 private:
  struct Parked {
    SessionStream stream;
    absl::Time until;
  };
  struct Expected {
    std::shared_ptr<Session> session;
    StreamPoint point;
    std::unique_ptr<SessionJournal::StreamEntry> entry;
    std::string why;
    absl::Time until;
  };
  struct Guarded {
    std::weak_ptr<Session> session;
    absl::Time until;
  };
  void GiveUpWhatIsDue();
  void GiveUp(SessionStream stream);
  static absl::StatusOr<SessionStream> Begin(Expected expected);

  const absl::Duration patience_;
  SessionJournal* journal_ = nullptr;
  absl::Mutex mutex_;
  std::list<Parked> parked_ ABSL_GUARDED_BY(mutex_);      // the longest parked first
  std::list<Expected> expected_ ABSL_GUARDED_BY(mutex_);  // the first due first
  std::list<Guarded> guarded_ ABSL_GUARDED_BY(mutex_);    // the first due first
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread giver_up_;
};

}  // namespace lbrd::daemon
