// All sessions of the daemon, by name.
//
// At most as many as was set; to make room, the oldest of those that have ended is forgotten: of a
// user's, where it is a user who asks. Thread rules: thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/session.h"

namespace lbrd::daemon {

// Whose names: sessions of a scope are named apart from all others (daemon/authorization.h).
struct SessionScope {
  std::string prefix;      // of their full names; empty: the admins', who may have them all
  size_t most = SIZE_MAX;  // sessions of that scope
};

absl::Status NoSuchSession(const std::string& name);

class SessionTable {
 public:
  static constexpr size_t kMaxSessions = 256;  // unless SetMaxSessions() says otherwise

  // Of `most` sessions, the last that there is room for are admins'.
  static constexpr size_t ReservedOf(size_t most) { return most / 4; }

  // From the next Reserve() on; sessions beyond it stay.
  void SetMaxSessions(size_t sessions);
  // A name that is free and well formed: `wanted`, or one made up when it is empty. It is taken
  // until Add() or Abandon(). The name that comes back begins with the scope's. kInvalidArgument,
  // kAlreadyExists, kResourceExhausted.
  absl::StatusOr<std::string> Reserve(const std::string& wanted, const SessionScope& scope = {});
  void Add(std::shared_ptr<Session> session);
  void Abandon(const std::string& name);

  absl::StatusOr<std::shared_ptr<Session>> Find(const std::string& name) const;
  // Forgets it; its last user ends it.
  absl::StatusOr<std::shared_ptr<Session>> Remove(const std::string& name);
  // By name, those after `after` (without the scope); all of one scope, or all.
  std::vector<std::shared_ptr<Session>> List(const std::string& after,
                                             const std::string& scope = "") const;
  // Stops all; nobody needs to watch any more.
  void StopAll();

  // Something about some session has changed.
  void Changed();
  // How often; waits until it is more than `seen`, or `timeout` has passed.
  uint64_t AwaitChange(uint64_t seen, absl::Duration timeout) const;
  bool closing() const;

 private:
  using Sessions = std::map<std::string, std::shared_ptr<Session>>;
  // Forgets the oldest of [from, to) that has ended; null: none has. To be let go without the lock:
  // it may still be telling of its end, and calls Changed().
  std::shared_ptr<Session> MakeRoom(Sessions::iterator from, Sessions::iterator to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  // null: reserved, being opened.
  Sessions sessions_ ABSL_GUARDED_BY(mutex_);
  size_t max_sessions_ ABSL_GUARDED_BY(mutex_) = kMaxSessions;
  int next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lbrd::daemon
