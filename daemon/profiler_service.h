// lbrd.v1.Profiler: requests in, sessions behind. See proto/lbrd/v1/profiler.proto for the
// contract, and daemon/authorization.h for who may do what.
//
// Thread rules: called from gRPC's threads.
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "daemon/audit.h"
#include "daemon/authenticator.h"
#include "daemon/authorization.h"
#include "daemon/capabilities.h"
#include "daemon/flow_table.h"
#include "daemon/session_journal.h"
#include "daemon/session_table.h"
#include "daemon/source_annotator.h"
#include "daemon/stream_table.h"
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
  // `authenticator`: nullptr where only one's own user can connect, who may do everything. Borrows
  // everything.
  ProfilerService(pmu::Kernel* kernel, pmu::Admission* admission, unwind::BinaryCache* binaries,
                  SessionTable* sessions, TaskTable* tasks, FlowTable* flows, Audit* audit,
                  Authenticator* authenticator, const UserLimits& limits, bool replay)
      : kernel_(*kernel),
        admission_(*admission),
        binaries_(*binaries),
        sessions_(*sessions),
        tasks_(*tasks),
        flows_(*flows),
        audit_(*audit),
        authenticator_(authenticator),
        limits_(limits),
        capabilities_(kernel, pmu::ForkSwitchingChild),
        replay_(replay),
        started_ns_(kernel->Now()) {}

  // Where sessions are kept that ask for it, and why that is not done. Before the service is used.
  void set_history(History* history, std::string why_none) {
    history_ = history;
    why_no_history_ = std::move(why_none);
  }
  void set_continuous(const ContinuousSession* continuous) { continuous_ = continuous; }
  // Whose CPU time is told beside the engine's own; -1: nobody's. Before the service is used.
  void set_broker(pid_t broker) { broker_ = broker; }
  // Where sessions are kept for the next engine, and what the one before left there goes on:
  // `last_end` is how it ended, in words, and `restarts` how many there were. Where that one and
  // those before it crashed again and again (`crashes`), sessions have ended instead of beginning
  // again. Before the service is used.
  void GoOn(SessionJournal* journal, absl::string_view last_end, uint32_t restarts,
            uint64_t crashes);
  static constexpr uint64_t kMostCrashes = 3;
  // As CreateSession, for sessions of the daemon's own.
  absl::StatusOr<std::shared_ptr<Session>> Create(const v1::CreateSessionRequest& request);

  grpc::Status GetCapabilities(grpc::ServerContext*, const v1::GetCapabilitiesRequest* request,
                               v1::Capabilities* response) override;
  // What GetStats answers.
  void DescribeDaemon(const Identity& who, v1::DaemonStats* out) const;
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
  grpc::Status NameFrames(grpc::ServerContext*, const v1::NameFramesRequest* request,
                          v1::NameFramesResponse* response) override;

 private:
  // Whoever asks, and that they may ask now; `cost`: of the request, in ordinary ones.
  absl::StatusOr<Identity> Enter(const grpc::ServerContext* context, double cost = 1) const;
  // What is to feed a session: a share in a flow, or events of its own. Users other than admins
  // have events of their own, so that the owners of what is sampled are looked at as it is sampled.
  absl::StatusOr<std::unique_ptr<SessionFeed>> OpenFeed(const Identity& who,
                                                        const std::string& name,
                                                        const v1::SessionSpec& spec);
  // The same of a spec with one event.
  absl::StatusOr<std::unique_ptr<SessionFeed>> OpenEventFeed(const Identity& who,
                                                             const std::string& name,
                                                             const v1::SessionSpec& spec);
  absl::StatusOr<std::shared_ptr<Session>> Create(const Identity& who,
                                                  const v1::CreateSessionRequest& request);
  // `entry`: where it is kept for the next engine; nullptr: nowhere. `earlier`: what it goes on
  // from; nullptr: it is new.
  absl::StatusOr<std::shared_ptr<Session>> Open(const Identity& who, const std::string& name,
                                                SessionPermit permit,
                                                std::shared_ptr<SessionJournal::SessionEntry> entry,
                                                const EarlierLife* earlier);
  // A place in the journal for a session that is being made; nullptr: there is none.
  std::shared_ptr<SessionJournal::SessionEntry> AddToJournal(
      const Identity& who, const std::string& name, const v1::CreateSessionRequest& request);
  absl::StatusOr<std::shared_ptr<Session>> GoOnWith(const SessionJournal::LeftSession& left,
                                                    const std::string& why, bool crashes);
  std::shared_ptr<Session> OpenEnded(const Identity& who, const std::string& name,
                                     std::shared_ptr<SessionJournal::SessionEntry> entry,
                                     const EarlierLife& earlier);
  // The caller's session that a request of that id has made; nullptr: none.
  std::shared_ptr<Session> MadeBy(const Identity& who, const std::string& request_id) const;
  // A session as its name says to that caller; others' are not there.
  absl::StatusOr<std::shared_ptr<Session>> Find(const Identity& who, const std::string& name) const;
  static void Describe(const Identity& who, const Session& session, v1::Session* out);
  // One more stream of that user's; each is given back.
  absl::Status TakeStream(const Identity& who);
  void GiveStreamBack(const Identity& who);
  grpc::Status Stream(const Identity& who, grpc::ServerContext* context,
                      const v1::StreamSamplesRequest& request,
                      grpc::ServerWriter<v1::StreamSamplesResponse>* writer);
  grpc::Status Watch(const Identity& who, grpc::ServerContext* context,
                     const v1::WatchSessionsRequest& request,
                     grpc::ServerWriter<v1::WatchSessionsResponse>* writer);

  pmu::Kernel& kernel_;
  pmu::Admission& admission_;
  unwind::BinaryCache& binaries_;
  SessionTable& sessions_;
  TaskTable& tasks_;
  FlowTable& flows_;
  StreamTable streams_;
  Audit& audit_;
  Authenticator* const authenticator_;
  const UserLimits limits_;
  MachineCapabilities capabilities_;
  SourceAnnotator annotator_;
  History* history_ = nullptr;
  std::string why_no_history_ = "this daemon keeps no history";
  const ContinuousSession* continuous_ = nullptr;
  SessionJournal* journal_ = nullptr;
  uint32_t engine_restarts_ = 0;
  pid_t broker_ = -1;
  const bool replay_;
  const uint64_t started_ns_;
  absl::Mutex streams_mutex_;  // a leaf
  absl::flat_hash_map<uint32_t, size_t> streams_of_user_ ABSL_GUARDED_BY(streams_mutex_);
};

}  // namespace lbrd::daemon
