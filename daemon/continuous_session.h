// The daemon's own session, which samples the whole machine at a low rate into the history, from
// the daemon's start to its end.
//
// A session that fails is begun again, after longer and longer pauses; one that a client stopped is
// not, until the daemon starts again.
//
// Thread rules: Start() and Stop() by the owner; problem() from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/session_table.h"
#include "lbrd/v1/profiler.pb.h"

namespace lbrd::daemon {

class ContinuousSession {
 public:
  static constexpr char kName[] = "continuous";
  // Prime, so that it falls into step with nothing that happens 10 or 100 times a second.
  static constexpr uint32_t kFrequencyHz = 19;

  using Create =
      std::function<absl::StatusOr<std::shared_ptr<Session>>(const v1::CreateSessionRequest&)>;
  // Borrows `sessions`.
  ContinuousSession(SessionTable* sessions, Create create)
      : sessions_(*sessions), create_(std::move(create)) {}
  // The session itself ends with its table.
  ~ContinuousSession() { Stop(); }

  void Start();
  // Does not begin it again from now on.
  void Stop();
  // Why it does not run; empty: it does.
  std::string problem() const;

 private:
  void Run();
  // One look at it. How long until the next.
  absl::Duration Watch();
  absl::Duration BeginAgain();

  SessionTable& sessions_;
  const Create create_;
  std::shared_ptr<Session> session_;
  absl::Duration back_off_ = absl::ZeroDuration();

  mutable absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::string problem_ ABSL_GUARDED_BY(mutex_) = "it has not begun yet";
  std::thread thread_;
};

}  // namespace lbrd::daemon
