// Who did what, and who was refused what: a line each in the log.
//
//   audit: uid=1500 pid=4242 comm="lbrctl" action=start session="1500/web" target="process 4711"
//   event="cycles" rate="99 Hz" result=ok
//
// What others chose is quoted, and escaped as in C, so that nobody can forge a line or steer a
// terminal. Denials beyond kDenialsPerSecond are counted instead, and told when it is quiet again.
//
// Thread rules: thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/authorization.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::daemon {

class Audit {
 public:
  static constexpr int kDenialsPerSecond = 20;

  // `on`: whether anything is told. A daemon that reads a recording for the one who started it has
  // nobody to tell.
  explicit Audit(bool on = true) : on_(on) {}

  // A session's start, or why it was not.
  void Start(const Identity& who, absl::string_view session, const v1::SessionSpec& spec,
             const absl::Status& result);
  // A request to end it, or to forget it.
  void Stop(const Identity& who, absl::string_view session, absl::string_view action);
  // It has ended, by itself or because it was asked to. `who`: its owner.
  void Ended(const Identity& who, absl::string_view session, const absl::Status& result);
  // Anything else that somebody asked for.
  void Other(const Identity& who, absl::string_view action, absl::string_view what,
             const absl::Status& result);

 private:
  void Line(const Identity& who, absl::string_view what, const absl::Status& result);

  const bool on_;
  absl::Mutex mutex_;  // a leaf
  absl::Time second_ ABSL_GUARDED_BY(mutex_);
  int denials_ ABSL_GUARDED_BY(mutex_) = 0;
};

// "process 4711", "user 1500", "CPUs 0-3".
std::string TargetText(const v1::Target& target);

}  // namespace lbrd::daemon
