// lbrd.v1.Profiler: requests in, sessions behind. See proto/lbrd/v1/profiler.proto for the
// contract.
//
// Thread rules: called from gRPC's threads.
#pragma once

#include "daemon/capabilities.h"
#include "daemon/flow_table.h"
#include "daemon/session_table.h"
#include "daemon/stream_table.h"
#include "daemon/task_table.h"
#include "lbrd/v1/profiler.grpc.pb.h"
#include "pmu/admission.h"
#include "pmu/kernel.h"
#include "unwind/binary.h"

namespace lbrd::daemon {

class ProfilerService final : public v1::Profiler::Service {
 public:
  // `replay`: this daemon reads a recording for its one client, and touches no kernel events.
  // Borrows everything.
  ProfilerService(pmu::Kernel* kernel, pmu::Admission* admission, unwind::BinaryCache* binaries,
                  SessionTable* sessions, TaskTable* tasks, FlowTable* flows, bool replay)
      : kernel_(*kernel),
        admission_(*admission),
        binaries_(*binaries),
        sessions_(*sessions),
        tasks_(*tasks),
        flows_(*flows),
        capabilities_(kernel, pmu::ForkSwitchingChild),
        replay_(replay),
        started_ns_(kernel->Now()) {}

  grpc::Status GetCapabilities(grpc::ServerContext*, const v1::GetCapabilitiesRequest* request,
                               v1::Capabilities* response) override;
  grpc::Status CreateSession(grpc::ServerContext*, const v1::CreateSessionRequest* request,
                             v1::Session* response) override;
  grpc::Status GetStats(grpc::ServerContext*, const v1::GetStatsRequest*,
                        v1::DaemonStats* response) override;
  grpc::Status GetSession(grpc::ServerContext*, const v1::GetSessionRequest* request,
                          v1::Session* response) override;
  grpc::Status ListSessions(grpc::ServerContext*, const v1::ListSessionsRequest* request,
                            v1::ListSessionsResponse* response) override;
  grpc::Status StopSession(grpc::ServerContext*, const v1::StopSessionRequest* request,
                           v1::Session* response) override;
  grpc::Status DeleteSession(grpc::ServerContext*, const v1::DeleteSessionRequest* request,
                             v1::DeleteSessionResponse*) override;
  grpc::Status StreamSamples(grpc::ServerContext* context, const v1::StreamSamplesRequest* request,
                             grpc::ServerWriter<v1::StreamSamplesResponse>* writer) override;
  grpc::Status WatchSessions(grpc::ServerContext* context, const v1::WatchSessionsRequest* request,
                             grpc::ServerWriter<v1::WatchSessionsResponse>* writer) override;
  grpc::Status GetProfile(grpc::ServerContext*, const v1::GetProfileRequest* request,
                          v1::GetProfileResponse* response) override;

 private:
  // What is to feed a session: a share in a flow, or events of its own.
  absl::StatusOr<std::unique_ptr<SessionFeed>> OpenFeed(const std::string& name,
                                                        const v1::SessionSpec& spec);
  absl::StatusOr<std::shared_ptr<Session>> Create(const v1::CreateSessionRequest& request);

  pmu::Kernel& kernel_;
  pmu::Admission& admission_;
  unwind::BinaryCache& binaries_;
  SessionTable& sessions_;
  TaskTable& tasks_;
  FlowTable& flows_;
  StreamTable streams_;
  MachineCapabilities capabilities_;
  const bool replay_;
  const uint64_t started_ns_;
};

}  // namespace lbrd::daemon
