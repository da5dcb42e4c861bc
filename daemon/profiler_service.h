// lbrd.v1.Profiler: requests in, sessions behind. See proto/lbrd/v1/profiler.proto for the
// contract.
//
// Thread rules: called from gRPC's threads.
#pragma once

#include "daemon/capabilities.h"
#include "daemon/session_table.h"
#include "daemon/task_table.h"
#include "lbrd/v1/profiler.grpc.pb.h"
#include "pmu/admission.h"
#include "pmu/kernel.h"
#include "unwind/binary.h"

namespace lbrd::daemon {

class ContinuousSession;
class History;

class ProfilerService final : public v1::Profiler::Service {
 public:
  // `replay`: this daemon reads a recording for its one client, and touches no kernel events.
  // Borrows everything.
  ProfilerService(pmu::Kernel* kernel, pmu::Admission* admission, unwind::BinaryCache* binaries,
                  SessionTable* sessions, TaskTable* tasks, bool replay)
      : kernel_(*kernel),
        admission_(*admission),
        binaries_(*binaries),
        sessions_(*sessions),
        tasks_(*tasks),
        capabilities_(kernel, pmu::ForkSwitchingChild),
        replay_(replay),
        started_ns_(kernel->Now()) {}

  // Where sessions are kept that ask for it, and why that is not done. Before the service is used.
  void set_history(History* history, std::string why_none) {
    history_ = history;
    why_no_history_ = std::move(why_none);
  }
  void set_continuous(const ContinuousSession* continuous) { continuous_ = continuous; }
  // As CreateSession, for sessions of the daemon's own.
  absl::StatusOr<std::shared_ptr<Session>> Create(const v1::CreateSessionRequest& request);

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
  grpc::Status GetProfile(grpc::ServerContext*, const v1::GetProfileRequest* request,
                          v1::GetProfileResponse* response) override;

 private:
  pmu::Kernel& kernel_;
  pmu::Admission& admission_;
  unwind::BinaryCache& binaries_;
  SessionTable& sessions_;
  TaskTable& tasks_;
  MachineCapabilities capabilities_;
  History* history_ = nullptr;
  std::string why_no_history_ = "this daemon keeps no history";
  const ContinuousSession* continuous_ = nullptr;
  const bool replay_;
  const uint64_t started_ns_;
};

}  // namespace lbrd::daemon
