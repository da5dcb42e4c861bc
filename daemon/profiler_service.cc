#include "daemon/profiler_service.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/continuous_session.h"
#include "daemon/cpu_time.h"
#include "daemon/debuginfod.h"
#include "daemon/frame_namer.h"
#include "daemon/history.h"
#include "daemon/history_service.h"
#include "daemon/joined_feed.h"
#include "daemon/private_feed.h"
#include "daemon/process_owner.h"
#include "daemon/proto_encoder.h"
#include "daemon/recording_files.h"
#include "daemon/session_events.h"
#include "daemon/unwind_totals.h"

namespace lbrd::daemon {
namespace {

constexpr int kMaxPageSize = 1000;
constexpr size_t kMaxRequestIdBytes = 64;
constexpr absl::Duration kDefaultDelay = absl::Milliseconds(20);
constexpr absl::Duration kMaxDelay = absl::Seconds(1);
// Of requests that open events, in ordinary requests.
constexpr double kOpeningCost = 20;
// How late it is noticed, at most, that a watcher has gone.
constexpr absl::Duration kWatchTick = absl::Seconds(1);

// Of a process, "self" this one; 0: /proc does not say.
uint64_t ResidentBytes(pmu::Kernel& kernel, const std::string& process) {
  const absl::StatusOr<std::string> statm =
      kernel.ReadFile(absl::StrCat("/proc/", process, "/statm"), 4096);
  if (!statm.ok()) return 0;
  const std::vector<absl::string_view> pages = absl::StrSplit(*statm, ' ');
  uint64_t resident = 0;
  if (pages.size() < 2 || !absl::SimpleAtoi(pages[1], &resident)) return 0;
  return resident * kernel.PageBytes();
}

std::vector<RecordedEvent> EventsOf(const SessionFeed& feed) {
  v1::Session described;
  feed.Describe(&described);
  std::vector<RecordedEvent> events;
  for (const v1::SessionEvent& event : described.events()) {
    events.push_back({event.name(), event.unit()});
  }
  return events;
}

// absl's and gRPC's codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

grpc::Status ProfilerService::GetCapabilities(grpc::ServerContext* context,
                                              const v1::GetCapabilitiesRequest* request,
                                              v1::Capabilities* response) {
  const absl::StatusOr<Identity> who = Enter(context, kOpeningCost);
  if (!who.ok()) return ToGrpc(who.status());
  if (replay_) {
    return grpc::Status(
        grpc::FAILED_PRECONDITION,
        "this daemon reads a recording and touches no events; ask the machine's own");
  }
  const bool experiments = request->run_experiments() && who->admin();
  capabilities_.Describe(experiments, response);
  if (experiments != request->run_experiments()) {
    response->add_notes(
        absl::StrCat("no experiments were made: they show what others do, and are for root and "
                     "members of group lbrd (rule ",
                     rule::kExperiments, ")"));
  }
  return grpc::Status::OK;
}

grpc::Status ProfilerService::GetStats(grpc::ServerContext* context, const v1::GetStatsRequest*,
                                       v1::DaemonStats* response) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  DescribeDaemon(*who, response);
  return grpc::Status::OK;
}

namespace {

void SetDuration(absl::Duration duration, google::protobuf::Duration* out) {
  const int64_t ns = absl::ToInt64Nanoseconds(duration);
  out->set_seconds(ns / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
}

void DescribeUnwinding(const unwind::RuleTables::Stats& tables, v1::UnwindStats* out) {
  const UnwindFigures done = UnwindTotals::OfProcess().Read();
  const auto& figures = done.figures;
  out->set_copies(figures[UnwindFigures::kCopies]);
  out->set_identical_copies(figures[UnwindFigures::kIdenticalCopies]);
  out->set_handed_over(figures[UnwindFigures::kHandedOver]);
  out->set_rule_lookups(figures[UnwindFigures::kLookUps]);
  out->set_rule_cache_hits(figures[UnwindFigures::kCacheHits]);
  out->set_rule_shared_hits(figures[UnwindFigures::kSharedCacheHits]);
  out->set_odd_rules(figures[UnwindFigures::kOddRules]);
  out->set_guesses(figures[UnwindFigures::kGuesses]);
  out->set_stacks(figures[UnwindFigures::kStacksInterned]);
  out->set_recent_stacks(figures[UnwindFigures::kRecentStacks]);
  out->set_tables(tables.tables);
  out->set_tables_built(tables.built);
  out->set_tables_evicted(tables.evicted);
  out->set_table_limit_bytes(unwind::RuleTables::kDefaultBudgetBytes);
  for (size_t state = 0; state < unwind::kStackStates; ++state) {
    for (size_t reason = 0; reason < UnwindFigures::kReasons; ++reason) {
      const uint64_t samples = done.verdicts[state][reason];
      if (samples == 0) continue;
      const absl::string_view word =
          unwind::StackReasonName(static_cast<unwind::StackReason>(reason));
      v1::Count* count = out->add_stacks_by_verdict();
      count->set_name(absl::StrCat(unwind::StackStateName(static_cast<unwind::StackState>(state)),
                                   word.empty() ? "" : ": ", word));
      count->set_value(samples);
    }
  }
}

}  // namespace

void ProfilerService::DescribeDaemon(const Identity& who, v1::DaemonStats* response) const {
  response->set_version(LBRD_VERSION);
  const uint64_t up_ns = kernel_.Now() - started_ns_;
  response->mutable_uptime()->set_seconds(static_cast<int64_t>(up_ns / 1'000'000'000));
  response->mutable_uptime()->set_nanos(static_cast<int32_t>(up_ns % 1'000'000'000));
  uint32_t by_state[v1::SessionState_ARRAYSIZE] = {};
  for (const std::shared_ptr<Session>& session : sessions_.List("", ScopeOf(who))) {
    ++by_state[session->state()];
  }
  response->set_sessions_waiting(by_state[v1::SESSION_STATE_WAITING]);
  response->set_sessions_running(by_state[v1::SESSION_STATE_RUNNING]);
  response->set_sessions_stopped(by_state[v1::SESSION_STATE_STOPPED]);
  response->set_sessions_failed(by_state[v1::SESSION_STATE_FAILED]);
  if (!who.admin()) {
    response->add_notes(
        absl::StrCat("these are your sessions; the daemon's own figures are for root and members "
                     "of group lbrd (rule ",
                     rule::kDaemonFigures, ")"));
    return;
  }
  const TaskTableStats tasks = tasks_.stats();
  response->set_tasks(tasks.tasks);
  response->set_contexts(tasks.contexts);
  response->set_global_users(tasks.global_users);
  response->set_context_bytes(tasks.context_bytes);
  response->set_pool_bytes(tasks.pool_bytes);
  response->set_contexts_refused(tasks.refused);
  response->set_lookups_without_context(tasks.unknown);
  const unwind::RuleTables::Stats tables = binaries_.rule_tables()->stats();
  response->set_rule_table_bytes(tables.bytes);
  DescribeUnwinding(tables, response->mutable_unwinding());
  response->set_sample_memory_bytes(SampleMemory::OfProcess().bytes());
  if (!replay_) response->set_sample_memory_limit_bytes(SampleMemory::OfProcess().limit());
  response->set_flows(static_cast<uint32_t>(flows_.size()));
  response->set_slow_down(flows_.slow_down());
  response->set_engine_restarts(engine_restarts_);
  response->set_resident_bytes(ResidentBytes(kernel_, "self"));
  SetDuration(CpuTime(), response->mutable_cpu_time());
  if (broker_ > 0) {
    response->set_broker_resident_bytes(ResidentBytes(kernel_, std::to_string(broker_)));
    SetDuration(CpuTimeOf(broker_), response->mutable_broker_cpu_time());
  }
  if (history_ != nullptr) DescribeHistory(*history_, response->mutable_history());
  if (continuous_ != nullptr) response->mutable_history()->set_continuous(continuous_->problem());
}

absl::StatusOr<Identity> ProfilerService::Enter(const grpc::ServerContext* context,
                                                double cost) const {
  if (authenticator_ == nullptr) return Identity{.role = Role::kAdmin, .uid = geteuid()};
  return authenticator_->Identify(*context, cost);
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::Find(const Identity& who,
                                                               const std::string& name) const {
  absl::StatusOr<std::shared_ptr<Session>> found = sessions_.Find(ScopeOf(who) + name);
  if (absl::IsNotFound(found.status())) return NoSuchSession(name);
  return found;
}

void ProfilerService::Describe(const Identity& who, const Session& session, v1::Session* out) {
  session.Describe(out);
  out->set_name(std::string(absl::StripPrefix(session.name(), ScopeOf(who))));
}

absl::StatusOr<std::unique_ptr<SessionFeed>> ProfilerService::OpenFeed(
    const Identity& who, const std::string& name, const v1::SessionSpec& spec) {
  std::vector<std::unique_ptr<SessionFeed>> feeds;
  for (const v1::SessionSpec& one : SpecPerEvent(spec)) {
    absl::StatusOr<std::unique_ptr<SessionFeed>> feed = OpenEventFeed(who, name, one);
    if (!feed.ok()) return OfEvent(spec, one, feed.status());
    feeds.push_back(*std::move(feed));
  }
  if (feeds.size() == 1) return std::move(feeds.front());
  return std::make_unique<JoinedFeed>(std::move(feeds));
}

absl::StatusOr<std::unique_ptr<SessionFeed>> ProfilerService::OpenEventFeed(
    const Identity& who, const std::string& name, const v1::SessionSpec& spec) {
  pmu::OwnershipOf ownership_of;
  std::optional<Viewer> viewer;
  if (!who.admin()) {
    ownership_of = [uid = who.uid](int32_t pid) { return HeldProcess(pid).OwnershipBy(uid); };
    viewer = Viewer{.uid = who.uid, .ownership_of = ownership_of};
  }
  // What is in the way are others' sessions, by name.
  const auto refusal = [&who](const absl::Status& status) {
    if (who.admin() || !absl::IsResourceExhausted(status)) return status;
    return OverQuota(rule::kOthersHidden,
                     "other sessions hold the hardware that this needs; try --allow-multiplex, or "
                     "later");
  };
  if (!replay_) {
    absl::StatusOr<std::unique_ptr<SessionFeed>> share = flows_.Join(name, spec, viewer);
    if (!share.ok()) return refusal(share.status());
    if (*share != nullptr) return share;
  }
  absl::StatusOr<SessionSource> source =
      OpenSessionSource(kernel_, admission_, name, spec, &tasks_, ownership_of);
  if (absl::IsResourceExhausted(source.status()) && flows_.CloseIdle()) {
    source = OpenSessionSource(kernel_, admission_, name, spec, &tasks_, ownership_of);
  }
  if (!source.ok()) return refusal(source.status());
  if (!who.admin() && !TimeSharingNotes(source->grants).empty()) {
    for (const std::string& note : TimeSharingNotes(source->grants)) {
      source->notes.erase(std::remove(source->notes.begin(), source->notes.end(), note),
                          source->notes.end());
    }
    source->notes.push_back(absl::StrCat("takes turns on the hardware with other sessions (rule ",
                                         rule::kOthersHidden, ")"));
  }
  return std::make_unique<PrivateFeed>(*std::move(source), spec, &binaries_);
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::Open(
    const Identity& who, const std::string& name, SessionPermit permit,
    std::shared_ptr<SessionJournal::SessionEntry> entry, const EarlierLife* earlier) {
  // Before its events are open, so that nothing is done to others' processes; and after, because it
  // may have got other rights meanwhile. From then on the kernel takes its events when it does.
  const HeldProcess target(permit.own_process);
  const auto check_target = [&] {
    if (permit.own_process < 0) return absl::OkStatus();
    return AuthorizeTarget(permit.own_process, target.OwnershipBy(who.uid));
  };
  if (absl::Status owned = check_target(); !owned.ok()) return owned;
  absl::StatusOr<std::unique_ptr<SessionFeed>> feed = OpenFeed(who, name, permit.spec);
  if (absl::Status owned = check_target(); !owned.ok()) return owned;
  if (!feed.ok()) return feed.status();
  std::shared_ptr<HistoryRecorder> recorder;
  if (permit.spec.retain() || permit.spec.continuous()) {
    recorder = history_->Record(name, who.uid, EventsOf(**feed));
  }
  auto session = std::make_shared<Session>(name, std::move(permit.spec), *std::move(feed), who.uid);
  session->AddNotes(std::move(permit.notes));
  session->set_memory_share(who.admin() ? MemoryShare::kWhole : MemoryShare::kThreeQuarters);
  session->RetainIn(std::move(recorder));
  session->KeepIn(std::move(entry));
  if (earlier != nullptr) session->GoOn(*earlier);
  session->set_on_change([this] { sessions_.Changed(); });
  session->set_on_ended(
      [this, who, name](const absl::Status& result) { audit_.Ended(who, name, result); });
  absl::Status started = session->Start();
  // Of one that goes on the end is told by itself.
  if (!started.ok() && earlier == nullptr) return started;
  return session;
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::Create(
    const v1::CreateSessionRequest& request) {
  return Create({.role = Role::kAdmin, .uid = geteuid(), .pid = getpid(), .comm = "lbrd"}, request);
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::Create(
    const Identity& who, const v1::CreateSessionRequest& request) {
  absl::StatusOr<SessionPermit> permit = AuthorizeSession(who, request.spec(), limits_);
  if (!permit.ok()) return permit.status();
  absl::StatusOr<v1::SessionSpec> spec = CheckSpec(std::move(permit->spec), replay_);
  if (!spec.ok()) return spec.status();
  permit->spec = *std::move(spec);
  if (history_ == nullptr && (permit->spec.retain() || permit->spec.continuous())) {
    return absl::FailedPreconditionError(why_no_history_);
  }
  SessionScope scope{.prefix = ScopeOf(who)};
  if (!who.admin()) scope.most = limits_.sessions;
  const absl::StatusOr<std::string> name = sessions_.Reserve(request.session_id(), scope);
  if (!name.ok()) return name.status();
  std::shared_ptr<SessionJournal::SessionEntry> entry;
  if (journal_ != nullptr && !permit->spec.continuous()) {
    entry = AddToJournal(who, *name, request);
    if (entry == nullptr) {
      permit->notes.emplace_back("it would not survive the daemon's engine: the journal is full");
    }
  }
  const absl::StatusOr<std::shared_ptr<Session>> session =
      Open(who, *name, *std::move(permit), std::move(entry), nullptr);
  if (!session.ok()) {
    sessions_.Abandon(*name);
    return session.status();
  }
  sessions_.Add(*session);
  streams_.Guard(*session);
  return session;
}

grpc::Status ProfilerService::CreateSession(grpc::ServerContext* context,
                                            const v1::CreateSessionRequest* request,
                                            v1::Session* response) {
  const absl::StatusOr<Identity> who = Enter(context, kOpeningCost);
  if (!who.ok()) return ToGrpc(who.status());
  if (request->request_id().size() > kMaxRequestIdBytes) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "request_id: must have at most 64 bytes");
  }
  // The answer to the first request has not arrived.
  if (const auto made = MadeBy(*who, request->request_id()); made != nullptr) {
    Describe(*who, *made, response);
    return grpc::Status::OK;
  }
  const absl::StatusOr<std::shared_ptr<Session>> session = Create(*who, *request);
  const std::string name = session.ok() ? (*session)->name() : request->session_id();
  audit_.Start(*who, name, session.ok() ? (*session)->spec() : request->spec(), session.status());
  if (!session.ok()) return ToGrpc(session.status());
  Describe(*who, **session, response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::GetSession(grpc::ServerContext* context,
                                         const v1::GetSessionRequest* request,
                                         v1::Session* response) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  const absl::StatusOr<std::shared_ptr<Session>> session = Find(*who, request->name());
  if (!session.ok()) return ToGrpc(session.status());
  Describe(*who, **session, response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::ListSessions(grpc::ServerContext* context,
                                           const v1::ListSessionsRequest* request,
                                           v1::ListSessionsResponse* response) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  if (request->page_size() < 0) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "page_size: must not be negative");
  }
  const int size =
      request->page_size() == 0 ? kMaxPageSize : std::min(request->page_size(), kMaxPageSize);
  for (const std::shared_ptr<Session>& session :
       sessions_.List(request->page_token(), ScopeOf(*who))) {
    if (response->sessions_size() == size) {
      response->set_next_page_token(response->sessions(size - 1).name());
      break;
    }
    Describe(*who, *session, response->add_sessions());
  }
  return grpc::Status::OK;
}

grpc::Status ProfilerService::StopSession(grpc::ServerContext* context,
                                          const v1::StopSessionRequest* request,
                                          v1::Session* response) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  const absl::StatusOr<std::shared_ptr<Session>> session = Find(*who, request->name());
  if (!session.ok()) return ToGrpc(session.status());
  audit_.Stop(*who, (*session)->name(), "stop");
  (*session)->Stop();
  Describe(*who, **session, response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::DeleteSession(grpc::ServerContext* context,
                                            const v1::DeleteSessionRequest* request,
                                            v1::DeleteSessionResponse*) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  const absl::StatusOr<std::shared_ptr<Session>> session =
      sessions_.Remove(ScopeOf(*who) + request->name());
  if (absl::IsNotFound(session.status())) return ToGrpc(NoSuchSession(request->name()));
  if (!session.ok()) return ToGrpc(session.status());
  audit_.Stop(*who, (*session)->name(), "delete");
  (*session)->Stop();
  (*session)->Forget();
  streams_.Forget((*session)->name());
  return grpc::Status::OK;
}

absl::Status ProfilerService::TakeStream(const Identity& who) {
  absl::MutexLock lock(&streams_mutex_);
  size_t& streams = streams_of_user_[who.uid];
  if (!who.admin() && streams >= limits_.streams) {
    return OverQuota(rule::kQuotaStreams,
                     absl::StrCat("you read ", streams, " streams, which is the most"));
  }
  ++streams;
  return absl::OkStatus();
}

void ProfilerService::GiveStreamBack(const Identity& who) {
  absl::MutexLock lock(&streams_mutex_);
  const auto found = streams_of_user_.find(who.uid);
  if (--found->second == 0) streams_of_user_.erase(found);
}

grpc::Status ProfilerService::StreamSamples(grpc::ServerContext* context,
                                            const v1::StreamSamplesRequest* request,
                                            grpc::ServerWriter<v1::StreamSamplesResponse>* writer) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  if (absl::Status taken = TakeStream(*who); !taken.ok()) return ToGrpc(taken);
  const grpc::Status done = Stream(*who, context, *request, writer);
  GiveStreamBack(*who);
  return done;
}

grpc::Status ProfilerService::Stream(const Identity& who, grpc::ServerContext* context,
                                     const v1::StreamSamplesRequest& request,
                                     grpc::ServerWriter<v1::StreamSamplesResponse>* writer) {
  const absl::StatusOr<std::shared_ptr<Session>> session = Find(who, request.name());
  if (!session.ok()) return ToGrpc(session.status());
  absl::Duration delay = kDefaultDelay;
  if (request.has_max_delay()) {
    delay = std::clamp(absl::Seconds(request.max_delay().seconds()) +
                           absl::Nanoseconds(request.max_delay().nanos()),
                       absl::Milliseconds(1), kMaxDelay);
  }
  if (request.compress()) context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  absl::StatusOr<SessionStream> opened = request.resume().empty()
                                             ? streams_.Open(*session)
                                             : streams_.Take((*session)->name(), request.resume());
  if (!opened.ok()) return ToGrpc(opened.status());
  ResumableStream& stream = *opened->stream;
  if (!request.resume().empty()) {
    stream.Rewind(request.resume_after(), request.resume_samples(), request.resume_time_ns());
  }

  const SourceAnnotator::Lease lease(&annotator_, request.source_detail());
  DefinitionEncoder definitions(lease.wanted());
  const auto envelope = [&](const StreamMessage& message) {
    v1::StreamSamplesResponse out;
    out.set_stream(stream.name());
    out.set_sequence(message.sequence);
    out.set_samples_before(message.samples_before);
    out.set_missing(stream.missing());
    out.set_dropped(stream.dropped());
    if (message.gap.has_value()) {
      v1::StreamGap* gap = out.add_gaps();
      gap->set_from_ns(message.gap->from_ns);
      gap->set_to_ns(message.gap->to_ns);
      gap->set_why(message.gap->why);
      gap->set_samples_not_received(message.gap->not_received);
    }
    EncodeSamples(message.samples, &definitions, out.mutable_definitions(), out.mutable_samples());
    lease.Annotate(definitions.TakeFrames(), out.mutable_definitions());
    return out;
  };
  const StreamMessage* message = nullptr;
  // Its name, to come back by: at once where samples may be long in coming.
  bool client_listens =
      replay_ || !request.resume().empty() || writer->Write(envelope(stream.Greeting()));
  while (client_listens && stream.Next(delay, &message)) {
    client_listens = !context->IsCancelled();
    if (message->samples.empty() || !client_listens) continue;
    client_listens = writer->Write(envelope(*message));
  }
  if (!client_listens) {
    streams_.Park(*std::move(opened));
    return grpc::Status::CANCELLED;
  }
  v1::StreamSamplesResponse last = envelope(stream.Last());
  Describe(who, **session, last.mutable_ended());
  StreamTable::Close(*std::move(opened));
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::WatchSessions(grpc::ServerContext* context,
                                            const v1::WatchSessionsRequest* request,
                                            grpc::ServerWriter<v1::WatchSessionsResponse>* writer) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  // It holds a thread and a connection as a stream does.
  if (absl::Status taken = TakeStream(*who); !taken.ok()) return ToGrpc(taken);
  const grpc::Status done = Watch(*who, context, *request, writer);
  GiveStreamBack(*who);
  return done;
}

grpc::Status ProfilerService::Watch(const Identity& who, grpc::ServerContext* context,
                                    const v1::WatchSessionsRequest& request,
                                    grpc::ServerWriter<v1::WatchSessionsResponse>* writer) {
  std::shared_ptr<Session> only;
  if (!request.name().empty()) {
    absl::StatusOr<std::shared_ptr<Session>> found = Find(who, request.name());
    if (!found.ok()) return ToGrpc(found.status());
    only = *std::move(found);
  } else if (request.hold()) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "hold: name the session to hold");
  }
  if (request.hold()) only->AddWatcher();
  // What the client was told of each: a session's begin tells it from a later one of its name.
  std::map<std::string, std::pair<absl::Time, v1::SessionState>> told;
  uint64_t seen = 0;
  bool first = true;
  bool over = false;
  while (!context->IsCancelled() && !over) {
    seen = sessions_.AwaitChange(seen, kWatchTick);
    over = sessions_.closing();
    v1::WatchSessionsResponse message;
    std::map<std::string, std::pair<absl::Time, v1::SessionState>> now;
    for (const std::shared_ptr<Session>& session : sessions_.List("", ScopeOf(who))) {
      if (only != nullptr && session != only) continue;
      const std::pair state(session->create_time(), session->state());
      now[session->name()] = state;
      const auto known = told.find(session->name());
      if (known == told.end() || known->second != state) {
        Describe(who, *session, message.add_sessions());
      }
    }
    for (const auto& [name, state] : told) {
      if (now.count(name) == 0)
        message.add_deleted(std::string(absl::StripPrefix(name, ScopeOf(who))));
    }
    told = std::move(now);
    if (only != nullptr) over = over || only->ended() || told.empty();
    const bool news = message.sessions_size() != 0 || message.deleted_size() != 0;
    if ((first || news) && !writer->Write(message)) break;
    first = false;
  }
  if (request.hold()) {
    only->RemoveWatcher();
    streams_.Guard(only);
  }
  return grpc::Status::OK;
}

grpc::Status ProfilerService::GetProfile(grpc::ServerContext* context,
                                         const v1::GetProfileRequest* request,
                                         v1::GetProfileResponse* response) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  const absl::StatusOr<std::shared_ptr<Session>> session = Find(*who, request->name());
  if (!session.ok()) return ToGrpc(session.status());
  Describe(*who, **session, response->mutable_session());
  const SourceAnnotator::Lease lease(&annotator_, request->source_detail());
  DefinitionEncoder definitions(lease.wanted());
  (*session)->EncodeProfileTo(&definitions, response->mutable_profile());
  lease.Annotate(definitions.TakeFrames(), response->mutable_profile()->mutable_definitions());
  return grpc::Status::OK;
}

grpc::Status ProfilerService::NameFrames(grpc::ServerContext* context,
                                         const v1::NameFramesRequest* request,
                                         v1::NameFramesResponse* response) {
  const absl::StatusOr<Identity> who = Enter(context);
  if (!who.ok()) return ToGrpc(who.status());
  if (!replay_) {
    return grpc::Status(grpc::UNIMPLEMENTED,
                        "a service asks nobody for files; a private daemon does (lbrd --replay)");
  }
  *response->mutable_definitions() = request->definitions();
  // None of a recording, but looked for in the same places.
  RecordingFiles files("", {}, Debuginfod::OfProcess());
  daemon::NameFrames(&files, request->source_detail(), response->mutable_definitions());
  return grpc::Status::OK;
}

}  // namespace lbrd::daemon
