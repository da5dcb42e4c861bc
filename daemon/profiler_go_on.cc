// ProfilerService's part in what survives the engine: sessions are put into the journal when they
// are made, and what an engine before left there is made again. docs/design/survival.md
//
// What was left is a request like any other: it goes through the same checks, for the same user.

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/ended_feed.h"
#include "daemon/journal_identity.h"
#include "daemon/log.h"
#include "daemon/profiler_service.h"
#include "pmu/proc_scan.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kMaxLeftNameBytes = 80;  // a uid, '/', and a session's name

uint64_t RandomId() {
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) < 0)
    random = static_cast<uint64_t>(absl::GetCurrentTimeNanos());
  return random | 1;
}

// The process or thread that a session samples; -1: none by number.
int32_t TaskOf(const v1::Target& target) {
  if (target.has_process()) return target.process().pid();
  if (target.has_thread()) return target.thread().tid();
  return -1;
}

// 0: it is gone.
uint64_t StartOf(pmu::Kernel& kernel, int32_t task) {
  return pmu::StartTicksOf(kernel, task, task).value_or(0);
}

absl::Duration DurationOf(const v1::SessionSpec& spec) {
  return absl::Seconds(spec.duration().seconds()) + absl::Nanoseconds(spec.duration().nanos());
}

void EndRecord(journal::SessionRecord* record, v1::SessionState state, absl::string_view error) {
  record->set_state(state);
  record->set_error(std::string(error));
  record->set_end_unix_ns(absl::GetCurrentTimeNanos());
}

// Ends it where it would have ended meanwhile, or cannot go on.
void EndIfOver(pmu::Kernel& kernel, const std::string& why, bool crashes,
               journal::SessionRecord* record) {
  const bool running = record->state() == v1::SESSION_STATE_RUNNING;
  if (!running && record->state() != v1::SESSION_STATE_WAITING) return;
  if (running && record->spec().has_duration()) {
    const absl::Time end =
        absl::FromUnixNanos(record->begin_unix_ns()) + DurationOf(record->spec());
    if (end <= absl::Now()) {
      EndRecord(record, v1::SESSION_STATE_STOPPED, "");
      record->set_end_unix_ns(absl::ToUnixNanos(end));
      return;
    }
  }
  if (const int32_t task = TaskOf(record->spec().target()); task >= 0) {
    if (const uint64_t start = StartOf(kernel, task);
        start == 0 || start != record->target_start()) {
      EndRecord(record, v1::SESSION_STATE_FAILED,
                absl::StrCat(record->spec().target().has_process() ? "process " : "thread ", task,
                             " ended while ", why, " and another one was started"));
      return;
    }
  }
  if (crashes) {
    EndRecord(record, v1::SESSION_STATE_FAILED,
              absl::StrCat(why,
                           ", as others did before it: sessions do not go on, in case one of "
                           "them is the cause; start it again, one at a time"));
  }
}

// What is asked for instead, so that it goes on with what is there.
std::vector<std::string> Continue(journal::SessionRecord* record) {
  std::vector<std::string> notes;
  if (!record->spec().target().has_process() || record->state() != v1::SESSION_STATE_RUNNING) {
    return notes;
  }
  notes.emplace_back(
      "processes that its process forked before the daemon's engine died are not followed any "
      "more; what it forks since is");
  // It has executed its program, or is about to: waiting for that would miss the rest of it.
  record->mutable_spec()->mutable_target()->mutable_process()->set_enable_on_exec(false);
  return notes;
}

}  // namespace

std::shared_ptr<SessionJournal::SessionEntry> ProfilerService::AddToJournal(
    const Identity& who, const std::string& name, const v1::CreateSessionRequest& request) {
  std::shared_ptr<SessionJournal::SessionEntry> entry = journal_->AddSession();
  if (entry == nullptr) return nullptr;
  const int32_t task = TaskOf(request.spec().target());
  const bool kept = entry->Update([&](journal::SessionRecord* record) {
    record->set_id(RandomId());
    record->set_name(name);
    KeepIdentity(who, record);
    *record->mutable_spec() = request.spec();
    record->set_request_id(request.request_id());
    record->set_state(v1::SESSION_STATE_WAITING);
    record->set_create_unix_ns(absl::GetCurrentTimeNanos());
    if (task >= 0) record->set_target_start(StartOf(kernel_, task));
  });
  return kept ? entry : nullptr;
}

std::shared_ptr<Session> ProfilerService::MadeBy(const Identity& who,
                                                 const std::string& request_id) const {
  if (request_id.empty()) return nullptr;
  for (const std::shared_ptr<Session>& session : sessions_.List("", ScopeOf(who))) {
    if (session->owner_uid() == who.uid && session->request_id() == request_id) return session;
  }
  return nullptr;
}

std::shared_ptr<Session> ProfilerService::OpenEnded(
    const Identity& who, const std::string& name,
    std::shared_ptr<SessionJournal::SessionEntry> entry, const EarlierLife& earlier) {
  const journal::SessionRecord& record = earlier.record;
  auto session =
      std::make_shared<Session>(name, record.spec(),
                                std::make_unique<EndedFeed>(std::vector<v1::SessionEvent>(
                                    record.events().begin(), record.events().end())),
                                who.uid);
  session->KeepIn(std::move(entry));
  session->GoOn(earlier);
  return session;
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::GoOnWith(
    const SessionJournal::LeftSession& left, const std::string& why, bool crashes) {
  EarlierLife earlier{.record = left.record, .figures = left.figures, .why = why};
  journal::SessionRecord& record = earlier.record;
  earlier.had_ended =
      record.state() != v1::SESSION_STATE_RUNNING && record.state() != v1::SESSION_STATE_WAITING;
  const Identity who = IdentityLeft(record);
  const std::string prefix = ScopeOf(who);
  if (!absl::StartsWith(record.name(), prefix) || record.name().size() > kMaxLeftNameBytes ||
      record.name().size() == prefix.size() || record.request_id().size() > 64) {
    return absl::InvalidArgumentError("what is left of it makes no sense");
  }
  // Users' sessions get what they may have, whatever was written of them.
  absl::StatusOr<SessionPermit> permit = AuthorizeSession(who, record.spec(), limits_);
  if (!permit.ok()) return permit.status();
  EndIfOver(kernel_, why, crashes, &record);
  std::vector<std::string> notes = Continue(&record);
  if (record.spec().target().has_process()) {
    permit->spec.mutable_target()->mutable_process()->set_enable_on_exec(
        record.spec().target().process().enable_on_exec());
  }
  absl::StatusOr<v1::SessionSpec> spec = CheckSpec(std::move(permit->spec), replay_);
  if (!spec.ok()) return spec.status();
  if (spec->continuous() || (spec->retain() && history_ == nullptr)) {
    return absl::FailedPreconditionError(spec->continuous() ? "it is the daemon's own"
                                                            : why_no_history_);
  }
  permit->spec = *std::move(spec);
  permit->notes.insert(permit->notes.end(), notes.begin(), notes.end());
  SessionScope scope{.prefix = prefix};
  if (!who.admin()) scope.most = limits_.sessions;
  const absl::StatusOr<std::string> name =
      sessions_.Reserve(record.name().substr(prefix.size()), scope);
  if (!name.ok()) return name.status();
  const std::shared_ptr<SessionJournal::SessionEntry> entry = journal_->TakeSession(left);
  std::shared_ptr<Session> session;
  if (record.state() == v1::SESSION_STATE_RUNNING || record.state() == v1::SESSION_STATE_WAITING) {
    absl::StatusOr<std::shared_ptr<Session>> opened =
        Open(who, *name, *std::move(permit), entry, &earlier);
    if (opened.ok()) {
      session = *std::move(opened);
    } else {
      EndRecord(&record, v1::SESSION_STATE_FAILED,
                absl::StrCat("it could not go on after ", why, ": ",
                             std::string(opened.status().message())));
    }
  }
  if (session == nullptr && left.record.state() == v1::SESSION_STATE_RUNNING) {
    v1::Gap* gap = record.add_gaps();
    gap->set_cpu(-1);
    gap->set_to_ns(kernel_.Now());
    gap->set_from_ns(std::min(earlier.figures.time_ns, gap->to_ns()));
    gap->set_why(why);
    ++earlier.figures.gap_count;
    earlier.figures.gap_ns += gap->to_ns() - gap->from_ns();
  }
  if (session == nullptr) session = OpenEnded(who, *name, entry, earlier);
  sessions_.Add(session);
  streams_.Guard(session);
  audit_.Other(who, "go-on", *name,
               session->state() == v1::SESSION_STATE_FAILED ? absl::UnavailableError(record.error())
                                                            : absl::OkStatus());
  return session;
}

void ProfilerService::GoOn(SessionJournal* journal, absl::string_view last_end, uint32_t restarts,
                           uint64_t crashes) {
  journal_ = journal;
  engine_restarts_ = restarts;
  streams_.set_journal(journal);
  const std::string why = absl::StrCat("the daemon's engine died (", last_end, ")");
  absl::flat_hash_map<uint64_t, std::shared_ptr<Session>> sessions;
  for (const SessionJournal::LeftSession& left : journal->LeftSessions()) {
    const absl::StatusOr<std::shared_ptr<Session>> session =
        GoOnWith(left, why, crashes >= kMostCrashes);
    if (session.ok()) {
      sessions[left.record.id()] = *session;
      continue;
    }
    // Frees its place.
    journal->TakeSession(left);
    Log(LogLevel::kError,
        absl::StrCat("a session does not go on: ", std::string(session.status().message())));
  }
  for (const SessionJournal::LeftStream& left : journal->LeftStreams()) {
    const auto of = sessions.find(left.point.session_id);
    if (of == sessions.end()) {
      journal->TakeStream(left);
    } else {
      streams_.Expect(of->second, left, why);
    }
  }
  if (!sessions.empty()) {
    Log(LogLevel::kInfo, absl::StrCat(sessions.size(), " sessions go on"));
  }
}

}  // namespace lbrd::daemon
