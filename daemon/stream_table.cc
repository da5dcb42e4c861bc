#include "daemon/stream_table.h"

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

// How long whoever served the broken connection may take to notice.
constexpr absl::Duration kNoticeBroken = absl::Seconds(2);

// Not to be guessed by another client of the session.
std::string MakeName() {
  uint64_t random[2] = {};
  if (getrandom(random, sizeof(random), 0) < 0) random[0] = reinterpret_cast<uintptr_t>(&random);
  return absl::StrCat(absl::Hex(random[0], absl::kZeroPad16),
                      absl::Hex(random[1], absl::kZeroPad16));
}

// The clock of the records.
uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

StreamTable::StreamTable(absl::Duration patience)
    : patience_(patience), giver_up_([this] {
        pthread_setname_np(pthread_self(), "lbrd-streams");
        GiveUpWhatIsDue();
      }) {}

StreamTable::~StreamTable() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  giver_up_.join();
}

absl::StatusOr<SessionStream> StreamTable::Open(const std::shared_ptr<Session>& session) {
  absl::StatusOr<std::shared_ptr<SampleStream>> samples = session->AddStream();
  if (!samples.ok()) return samples.status();
  auto stream = std::make_unique<ResumableStream>(MakeName(), *std::move(samples));
  if (journal_ != nullptr && session->journal_id() != 0) {
    if (auto entry = journal_->AddStream(); entry != nullptr) {
      stream->KeepIn(std::move(entry), session->journal_id(), MonotonicNs());
    }
  }
  return SessionStream{session, std::move(stream)};
}

void StreamTable::Expect(const std::shared_ptr<Session>& session,
                         const SessionJournal::LeftStream& left, std::string why) {
  absl::MutexLock lock(&mutex_);
  expected_.push_back(
      {session, left.point, journal_->TakeStream(left), std::move(why), absl::Now() + patience_});
}

absl::StatusOr<SessionStream> StreamTable::Begin(Expected expected) {
  absl::StatusOr<std::shared_ptr<SampleStream>> samples = expected.session->AddStream();
  if (absl::IsFailedPrecondition(samples.status())) {
    // The session has ended meanwhile: there is only the last message to be had.
    samples = std::make_shared<SampleStream>(/*patient=*/false);
    (*samples)->End();
  }
  if (!samples.ok()) return samples.status();
  const std::string name(expected.point.name, sizeof(expected.point.name));
  auto stream = std::make_unique<ResumableStream>(name, *std::move(samples));
  stream->GoOn(expected.point, std::move(expected.why), MonotonicNs());
  stream->KeepIn(std::move(expected.entry), expected.point.session_id, expected.point.begin_ns);
  return SessionStream{expected.session, std::move(stream)};
}

void StreamTable::Park(SessionStream stream) {
  // A recording waits for its reader, who must not be one that may never come.
  if (stream.session->patient()) {
    GiveUp(std::move(stream));
    return;
  }
  SessionStream longest;
  {
    absl::MutexLock lock(&mutex_);
    parked_.push_back({std::move(stream), absl::Now() + patience_});
    if (parked_.size() <= kMaxParked) return;
    longest = std::move(parked_.front().stream);
    parked_.pop_front();
  }
  GiveUp(std::move(longest));
}

absl::StatusOr<SessionStream> StreamTable::Take(const std::string& session,
                                                const std::string& name) {
  std::list<Expected> expected;
  {
    absl::MutexLock lock(&mutex_);
    const auto left = std::find_if(expected_.begin(), expected_.end(), [&](const Expected& one) {
      return absl::string_view(one.point.name, sizeof(one.point.name)) == name &&
             one.session->name() == session;
    });
    if (left != expected_.end()) expected.splice(expected.end(), expected_, left);
  }
  if (!expected.empty()) return Begin(std::move(expected.front()));
  absl::MutexLock lock(&mutex_);
  auto found = parked_.end();
  const auto here = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    found = std::find_if(parked_.begin(), parked_.end(), [&](const Parked& one) {
      return one.stream.stream->name() == name && one.stream.session->name() == session;
    });
    return found != parked_.end();
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&here), kNoticeBroken)) {
    return absl::NotFoundError(absl::StrCat(
        "session '", session, "' has no such stream to resume: streams are kept for ",
        absl::FormatDuration(patience_), ", and not beyond the session's end; begin a new one"));
  }
  SessionStream stream = std::move(found->stream);
  parked_.erase(found);
  return stream;
}

void StreamTable::Close(SessionStream stream) {
  stream.session->RemoveStream(stream.stream->shared_source());
}

void StreamTable::Forget(const std::string& session) {
  std::list<Parked> forgotten;
  std::list<Expected> not_expected;
  {
    absl::MutexLock lock(&mutex_);
    for (auto one = expected_.begin(); one != expected_.end();) {
      const auto next = std::next(one);
      if (one->session->name() == session) not_expected.splice(not_expected.end(), expected_, one);
      one = next;
    }
    for (auto one = parked_.begin(); one != parked_.end();) {
      const auto next = std::next(one);
      if (one->stream.session->name() == session) {
        forgotten.splice(forgotten.end(), parked_, one);
      }
      one = next;
    }
  }
  for (Parked& parked : forgotten) GiveUp(std::move(parked.stream));
}

void StreamTable::Guard(const std::shared_ptr<Session>& session) {
  if (!session->bound()) return;
  absl::MutexLock lock(&mutex_);
  guarded_.push_back({session, absl::Now() + patience_});
}

void StreamTable::GiveUp(SessionStream stream) {
  Close({stream.session, std::move(stream.stream)});
  stream.session->StopIfUnheld();
}

void StreamTable::GiveUpWhatIsDue() {
  while (true) {
    SessionStream stream;
    std::list<Expected> not_come;
    std::shared_ptr<Session> guarded;
    {
      absl::MutexLock lock(&mutex_);
      const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        const absl::Time now = absl::Now();
        return stop_ || (!parked_.empty() && parked_.front().until <= now) ||
               (!expected_.empty() && expected_.front().until <= now) ||
               (!guarded_.empty() && guarded_.front().until <= now);
      };
      // All lists are in the order of their times. An empty table is looked at once in a while.
      absl::Time next = absl::Now() + absl::Seconds(1);
      if (!parked_.empty()) next = std::min(next, parked_.front().until);
      if (!expected_.empty()) next = std::min(next, expected_.front().until);
      if (!guarded_.empty()) next = std::min(next, guarded_.front().until);
      mutex_.AwaitWithDeadline(absl::Condition(&due), next);
      if (stop_) return;
      const absl::Time now = absl::Now();
      if (!parked_.empty() && parked_.front().until <= now) {
        stream = std::move(parked_.front().stream);
        parked_.pop_front();
      }
      if (!expected_.empty() && expected_.front().until <= now) {
        not_come.splice(not_come.end(), expected_, expected_.begin());
      }
      if (!guarded_.empty() && guarded_.front().until <= now) {
        guarded = guarded_.front().session.lock();
        guarded_.pop_front();
      }
    }
    if (stream.session != nullptr) GiveUp(std::move(stream));
    if (guarded != nullptr) guarded->StopIfUnheld();
  }
}

}  // namespace lbrd::daemon
