#include "daemon/profiler_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "daemon/continuous_session.h"
#include "daemon/history.h"
#include "daemon/history_service.h"
#include "daemon/proto_encoder.h"

namespace lbrd::daemon {
namespace {

constexpr int kMaxPageSize = 1000;
constexpr absl::Duration kDefaultDelay = absl::Milliseconds(20);
constexpr absl::Duration kMaxDelay = absl::Seconds(1);

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
  response->set_resident_bytes(ResidentBytes(kernel_));
  if (history_ != nullptr) DescribeHistory(*history_, response->mutable_history());
  if (continuous_ != nullptr) response->mutable_history()->set_continuous(continuous_->problem());
  return grpc::Status::OK;
}

absl::StatusOr<std::shared_ptr<Session>> ProfilerService::Create(
    const v1::CreateSessionRequest& request) {
  absl::StatusOr<v1::SessionSpec> spec = CheckSpec(request.spec(), replay_);
  if (!spec.ok()) return spec.status();
  const bool retain = spec->retain() || spec->continuous();
  if (retain && history_ == nullptr) return absl::FailedPreconditionError(why_no_history_);
  absl::StatusOr<std::string> name = sessions_.Reserve(request.session_id());
  if (!name.ok()) return name.status();
  absl::StatusOr<SessionSource> source =
      OpenSessionSource(kernel_, admission_, *name, *spec, &tasks_);
  if (!source.ok()) {
    sessions_.Abandon(*name);
    return source.status();
  }
  std::vector<RecordedEvent> events;
  for (const v1::SessionEvent& event : source->described) {
    events.push_back({event.name(), event.unit()});
  }
  auto session = std::make_shared<Session>(*name, *std::move(spec), *std::move(source), &binaries_);
  if (retain) session->RetainIn(history_->Record(*name, /*owner=*/0, std::move(events)));
  if (absl::Status started = session->Start(); !started.ok()) {
    sessions_.Abandon(*name);
    return started;
  }
  sessions_.Add(session);
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
  const absl::StatusOr<std::shared_ptr<SampleStream>> stream = (*session)->AddStream();
  if (!stream.ok()) return ToGrpc(stream.status());

  DefinitionEncoder definitions;
  std::vector<Sample> samples;
  bool client_listens = true;
  while (client_listens && (*stream)->Pop(delay, &samples)) {
    client_listens = !context->IsCancelled();
    if (samples.empty()) continue;
    v1::StreamSamplesResponse message;
    EncodeSamples(samples, &definitions, message.mutable_definitions(), message.mutable_samples());
    message.set_dropped((*stream)->dropped());
    client_listens = client_listens && writer->Write(message);
  }
  (*session)->RemoveStream(*stream);
  if (!client_listens) return grpc::Status::CANCELLED;
  v1::StreamSamplesResponse last;
  last.set_dropped((*stream)->dropped());
  (*session)->Describe(last.mutable_ended());
  writer->Write(last);
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
