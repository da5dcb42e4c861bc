#include "daemon/continuous_session.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

constexpr absl::Duration kLook = absl::Seconds(1);
constexpr absl::Duration kLeastBackOff = absl::Seconds(1);
constexpr absl::Duration kMostBackOff = absl::Minutes(5);
// Three seconds of full stack copies.
constexpr uint64_t kRingBytes = 1 << 20;

v1::CreateSessionRequest Request() {
  v1::CreateSessionRequest request;
  request.set_session_id(ContinuousSession::kName);
  v1::SessionSpec* spec = request.mutable_spec();
  spec->mutable_target()->mutable_all_cpus();
  spec->set_frequency_hz(ContinuousSession::kFrequencyHz);
  spec->set_ring_bytes(kRingBytes);
  spec->set_continuous(true);
  // It is never worth refusing anybody else.
  spec->set_allow_multiplex(true);
  return request;
}

}  // namespace

void ContinuousSession::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void ContinuousSession::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "lbrd-continuous");
    Run();
  });
}

std::string ContinuousSession::problem() const {
  absl::MutexLock lock(&mutex_);
  return problem_;
}

void ContinuousSession::Run() {
  while (true) {
    const absl::Duration pause = Watch();
    absl::MutexLock lock(&mutex_);
    const auto stopped = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_; };
    if (mutex_.AwaitWithTimeout(absl::Condition(&stopped), pause)) return;
  }
}

absl::Duration ContinuousSession::Watch() {
  if (session_ == nullptr) return BeginAgain();
  switch (session_->state()) {
    case v1::SESSION_STATE_FAILED:
      sessions_.Remove(kName).IgnoreError();
      session_ = nullptr;
      return BeginAgain();
    case v1::SESSION_STATE_STOPPED: {
      absl::MutexLock lock(&mutex_);
      problem_ = "a client stopped it; it begins again when lbrd does";
      return absl::InfiniteDuration();
    }
    default:
      return kLook;
  }
}

absl::Duration ContinuousSession::BeginAgain() {
  absl::StatusOr<std::shared_ptr<Session>> session = create_(Request());
  absl::MutexLock lock(&mutex_);
  if (session.ok()) {
    session_ = *std::move(session);
    problem_.clear();
    // What fails at once is not begun anew at once.
    return std::max(kLook, back_off_);
  }
  const std::string problem(session.status().message());
  if (problem != problem_) {
    Log(LogLevel::kWarning, absl::StrCat("the continuous session cannot begin: ", problem));
  }
  problem_ = problem;
  back_off_ = std::clamp(2 * back_off_, kLeastBackOff, kMostBackOff);
  return back_off_;
}

}  // namespace lbrd::daemon
