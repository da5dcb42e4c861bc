// All sessions of the daemon, by name.
//
// At most as many as was set; to make room, the oldest of those that have ended is forgotten.
// Thread rules: thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "daemon/session.h"

namespace lbrd::daemon {

class SessionTable {
 public:
  static constexpr size_t kMaxSessions = 64;  // unless SetMaxSessions() says otherwise

  // From the next Reserve() on; sessions beyond it stay.
  void SetMaxSessions(size_t sessions);
  // A name that is free and well formed: `wanted`, or one made up when it is empty. It is taken
  // until Add() or Abandon(). kInvalidArgument, kAlreadyExists, kResourceExhausted.
  absl::StatusOr<std::string> Reserve(const std::string& wanted);
  void Add(std::shared_ptr<Session> session);
  void Abandon(const std::string& name);

  absl::StatusOr<std::shared_ptr<Session>> Find(const std::string& name) const;
  // Forgets it; its last user ends it.
  absl::StatusOr<std::shared_ptr<Session>> Remove(const std::string& name);
  // By name, those after `after`.
  std::vector<std::shared_ptr<Session>> List(const std::string& after) const;
  void StopAll();

 private:
  mutable absl::Mutex mutex_;
  // null: reserved, being opened.
  std::map<std::string, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mutex_);
  size_t max_sessions_ ABSL_GUARDED_BY(mutex_) = kMaxSessions;
  int next_number_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace lbrd::daemon
