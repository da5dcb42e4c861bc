#include "daemon/profiler_service.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "daemon/private_feed.h"
#include "daemon/proto_encoder.h"

namespace lbrd::daemon {
namespace {

constexpr int kMaxPageSize = 1000;
constexpr absl::Duration kDefaultDelay = absl::Milliseconds(20);
constexpr absl::Duration kMaxDelay = absl::Seconds(1);
// How late it is noticed, at most, that a watcher has gone.
constexpr absl::Duration kWatchTick = absl::Milliseconds(200);

// Of this process; 0: /proc does not say.
uint64_t ResidentBytes(pmu::Kernel& kernel) {
  const absl::StatusOr<std::string> statm = kernel.ReadFile("/proc/self/statm", 4096);
  if (!statm.ok()) return 0;
  const std::vector<absl::string_view> pages = absl::StrSplit(*statm, ' ');
  uint64_t resident = 0;
  if (pages.size() < 2 || !absl::SimpleAtoi(pages[1], &resident)) return 0;
  return resident * kernel.PageBytes();
}

// absl's and gRPC's codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

grpc::Status ProfilerService::GetCapabilities(grpc::ServerContext*,
                                              const v1::GetCapabilitiesRequest* request,
                                              v1::Capabilities* response) {
  if (replay_) {
    return grpc::Status(
        grpc::FAILED_PRECONDITION,
        "this daemon reads a recording and touches no events; ask the machine's own");
  }
  capabilities_.Describe(request->run_experiments(), response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::GetStats(grpc::ServerContext*, const v1::GetStatsRequest*,
                                       v1::DaemonStats* response) {
  response->set_version(LBRD_VERSION);
  const uint64_t up_ns = kernel_.Now() - started_ns_;
  response->mutable_uptime()->set_seconds(static_cast<int64_t>(up_ns / 1'000'000'000));
  response->mutable_uptime()->set_nanos(static_cast<int32_t>(up_ns % 1'000'000'000));
  uint32_t by_state[v1::SessionState_ARRAYSIZE] = {};
  for (const std::shared_ptr<Session>& session : sessions_.List("")) ++by_state[session->state()];
  response->set_sessions_waiting(by_state[v1::SESSION_STATE_WAITING]);
  response->set_sessions_running(by_state[v1::SESSION_STATE_RUNNING]);
  response->set_sessions_stopped(by_state[v1::SESSION_STATE_STOPPED]);
  response->set_sessions_failed(by_state[v1::SESSION_STATE_FAILED]);
  const TaskTableStats tasks = tasks_.stats();
  response->set_tasks(tasks.tasks);
  response->set_contexts(tasks.contexts);
  response->set_global_users(tasks.global_users);
  response->set_context_bytes(tasks.context_bytes);
  response->set_pool_bytes(tasks.pool_bytes);
  response->set_contexts_refused(tasks.refused);
  response->set_lookups_without_context(tasks.unknown);
  response->set_rule_table_bytes(binaries_.rule_tables()->stats().bytes);
  response->set_flows(static_cast<uint32_t>(flows_.size()));
  response->set_resident_bytes(ResidentBytes(kernel_));
  return grpc::Status::OK;
}

absl::StatusOr<std::unique_ptr<SessionFeed>> ProfilerService::OpenFeed(
    const std::string& name, const v1::SessionSpec& spec) {
  if (!replay_) {
    absl::StatusOr<std::unique_ptr<SessionFeed>> share = flows_.Join(name, spec);
    if (!share.ok() || *share != nullptr) return share;
  }
  absl::StatusOr<SessionSource> source =
      OpenSessionSource(kernel_, admission_, name, spec, &tasks_);
  if (absl::IsResourceExhausted(source.status()) && flows_.CloseIdle()) {
    source = OpenSessionSource(kernel_, admission_, name, spec, &tasks_);
  }
  if (!source.ok()) return source.status();
  return std::make_unique<PrivateFeed>(*std::move(source), spec, &binaries_);
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::Create(
    const v1::CreateSessionRequest& request) {
  absl::StatusOr<v1::SessionSpec> spec = CheckSpec(request.spec(), replay_);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<std::string> name = sessions_.Reserve(request.session_id());
  if (!name.ok()) return name.status();
  absl::StatusOr<std::unique_ptr<SessionFeed>> feed = OpenFeed(*name, *spec);
  if (!feed.ok()) {
    sessions_.Abandon(*name);
    return feed.status();
  }
  auto session = std::make_shared<Session>(*name, *std::move(spec), *std::move(feed));
  session->set_on_change([this] { sessions_.Changed(); });
  if (absl::Status started = session->Start(); !started.ok()) {
    sessions_.Abandon(*name);
    return started;
  }
  sessions_.Add(session);
  streams_.Guard(session);
  return session;
}

grpc::Status ProfilerService::CreateSession(grpc::ServerContext*,
                                            const v1::CreateSessionRequest* request,
                                            v1::Session* response) {
  const absl::StatusOr<std::shared_ptr<Session>> session = Create(*request);
  if (!session.ok()) return ToGrpc(session.status());
  (*session)->Describe(response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::GetSession(grpc::ServerContext*, const v1::GetSessionRequest* request,
                                         v1::Session* response) {
  const absl::StatusOr<std::shared_ptr<Session>> session = sessions_.Find(request->name());
  if (!session.ok()) return ToGrpc(session.status());
  (*session)->Describe(response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::ListSessions(grpc::ServerContext*,
                                           const v1::ListSessionsRequest* request,
                                           v1::ListSessionsResponse* response) {
  if (request->page_size() < 0) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "page_size: must not be negative");
  }
  const int size =
      request->page_size() == 0 ? kMaxPageSize : std::min(request->page_size(), kMaxPageSize);
  for (const std::shared_ptr<Session>& session : sessions_.List(request->page_token())) {
    if (response->sessions_size() == size) {
      response->set_next_page_token(response->sessions(size - 1).name());
      break;
    }
    session->Describe(response->add_sessions());
  }
  return grpc::Status::OK;
}

grpc::Status ProfilerService::StopSession(grpc::ServerContext*,
                                          const v1::StopSessionRequest* request,
                                          v1::Session* response) {
  const absl::StatusOr<std::shared_ptr<Session>> session = sessions_.Find(request->name());
  if (!session.ok()) return ToGrpc(session.status());
  (*session)->Stop();
  (*session)->Describe(response);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::DeleteSession(grpc::ServerContext*,
                                            const v1::DeleteSessionRequest* request,
                                            v1::DeleteSessionResponse*) {
  const absl::StatusOr<std::shared_ptr<Session>> session = sessions_.Remove(request->name());
  if (!session.ok()) return ToGrpc(session.status());
  (*session)->Stop();
  streams_.Forget(request->name());
  return grpc::Status::OK;
}

grpc::Status ProfilerService::StreamSamples(grpc::ServerContext* context,
                                            const v1::StreamSamplesRequest* request,
                                            grpc::ServerWriter<v1::StreamSamplesResponse>* writer) {
  const absl::StatusOr<std::shared_ptr<Session>> session = sessions_.Find(request->name());
  if (!session.ok()) return ToGrpc(session.status());
  absl::Duration delay = kDefaultDelay;
  if (request->has_max_delay()) {
    delay = std::clamp(absl::Seconds(request->max_delay().seconds()) +
                           absl::Nanoseconds(request->max_delay().nanos()),
                       absl::Milliseconds(1), kMaxDelay);
  }
  if (request->compress()) context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  absl::StatusOr<SessionStream> opened = request->resume().empty()
                                             ? StreamTable::Open(*session)
                                             : streams_.Take(request->name(), request->resume());
  if (!opened.ok()) return ToGrpc(opened.status());
  ResumableStream& stream = *opened->stream;
  if (!request->resume().empty()) {
    stream.Rewind(request->resume_after(), request->resume_samples());
  }

  DefinitionEncoder definitions;
  const auto envelope = [&](const StreamMessage& message) {
    v1::StreamSamplesResponse out;
    out.set_stream(stream.name());
    out.set_sequence(message.sequence);
    out.set_samples_before(message.samples_before);
    out.set_missing(stream.missing());
    out.set_dropped(stream.source().dropped());
    EncodeSamples(message.samples, &definitions, out.mutable_definitions(), out.mutable_samples());
    return out;
  };
  const StreamMessage* message = nullptr;
  bool client_listens = true;
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
  (*session)->Describe(last.mutable_ended());
  StreamTable::Close(*std::move(opened));
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status ProfilerService::WatchSessions(grpc::ServerContext* context,
                                            const v1::WatchSessionsRequest* request,
                                            grpc::ServerWriter<v1::WatchSessionsResponse>* writer) {
  std::shared_ptr<Session> only;
  if (!request->name().empty()) {
    absl::StatusOr<std::shared_ptr<Session>> found = sessions_.Find(request->name());
    if (!found.ok()) return ToGrpc(found.status());
    only = *std::move(found);
  } else if (request->hold()) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "hold: name the session to hold");
  }
  if (request->hold()) only->AddWatcher();
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
    for (const std::shared_ptr<Session>& session : sessions_.List("")) {
      if (only != nullptr && session != only) continue;
      const std::pair state(session->create_time(), session->state());
      now[session->name()] = state;
      const auto known = told.find(session->name());
      if (known == told.end() || known->second != state) {
        session->Describe(message.add_sessions());
      }
    }
    for (const auto& [name, state] : told) {
      if (now.count(name) == 0) message.add_deleted(name);
    }
    told = std::move(now);
    if (only != nullptr) over = over || only->ended() || told.empty();
    const bool news = message.sessions_size() != 0 || message.deleted_size() != 0;
    if ((first || news) && !writer->Write(message)) break;
    first = false;
  }
  if (request->hold()) {
    only->RemoveWatcher();
    streams_.Guard(only);
  }
  return grpc::Status::OK;
}

grpc::Status ProfilerService::GetProfile(grpc::ServerContext*, const v1::GetProfileRequest* request,
                                         v1::GetProfileResponse* response) {
  const absl::StatusOr<std::shared_ptr<Session>> session = sessions_.Find(request->name());
  if (!session.ok()) return ToGrpc(session.status());
  (*session)->Describe(response->mutable_session());
  (*session)->EncodeProfileTo(response->mutable_profile());
  return grpc::Status::OK;
}

}  // namespace lbrd::daemon
