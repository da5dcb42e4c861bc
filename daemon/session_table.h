// All sessions of the daemon, by name.
//
// At most kMaxSessions; to make room, the oldest of those that have ended is forgotten.
// Thread rules: thread-safe.
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

class SessionTable {
 public:
  static constexpr size_t kMaxSessions = 256;

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
  // Stops all; nobody needs to watch any more.
  void StopAll();

  // Something about some session has changed.
  void Changed();
  // How often; waits until it is more than `seen`, or `timeout` has passed.
  uint64_t AwaitChange(uint64_t seen, absl::Duration timeout) const;
  bool closing() const;

 private:
  mutable absl::Mutex mutex_;
  // null: reserved, being opened.
  std::map<std::string, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mutex_);
  int next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lbrd::daemon
