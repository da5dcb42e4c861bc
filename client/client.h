// The C++ client of a daemon: lbrd.v1.Profiler with absl::Status.
//
//   absl::StatusOr<Client> client = Client::Connect(Endpoint("/run/lbrd/lbrd.sock"));
//   absl::StatusOr<v1::Session> session = client->CreateSession("", spec);
//
// Where the daemon's engine dies and is started again, calls go on: what was asked is asked again
// for as long as somebody listens on the socket, kResumeWithin at most.
//
// Thread rules: thread-safe. Calls block. Errors carry the daemon's words; kUnavailable says how to
// reach one.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/endpoint.h"
#include "lbrd/v1/history.grpc.pb.h"
#include "lbrd/v1/profiler.grpc.pb.h"

namespace lbrd::client {

// How long a call is tried again; the daemon keeps a stream for as long when its connection breaks.
inline constexpr absl::Duration kResumeWithin = absl::Seconds(10);

class Client {
 public:
  // kNotFound, kPermissionDenied, kUnavailable: what stands in the way, and what to do.
  static absl::StatusOr<Client> Connect(const Endpoint& endpoint);

  // Experiments take up to 2 s.
  absl::StatusOr<v1::Capabilities> GetCapabilities(bool run_experiments) const;
  absl::StatusOr<v1::DaemonStats> GetStats() const;
  absl::StatusOr<v1::Session> CreateSession(const std::string& name,
                                            const v1::SessionSpec& spec) const;
  absl::StatusOr<v1::Session> GetSession(const std::string& name) const;
  absl::StatusOr<std::vector<v1::Session>> ListSessions() const;
  absl::StatusOr<v1::Session> StopSession(const std::string& name) const;
  absl::Status DeleteSession(const std::string& name) const;
  // In memory of its own (an arena), since it may be of a million pieces.
  absl::StatusOr<std::shared_ptr<v1::GetProfileResponse>> GetProfile(
      const std::string& name, const v1::SourceDetail& detail = {}) const;
  // Of a daemon of one's own: see v1::NameFramesRequest. May take minutes.
  absl::StatusOr<v1::Definitions> NameFrames(const v1::NameFramesRequest& request) const;
  absl::StatusOr<v1::QueryProfileResponse> QueryProfile(
      const v1::QueryProfileRequest& request) const;

  // Hands each message to `take` until the session ends (the last has `ended` set) or `take` says
  // false, which leaves the session as it is. Where the connection breaks and the daemon is still
  // there, it is resumed: no message comes twice, and `missing` says what could not be had again,
  // `gaps` what the daemon's engine took with it when it died.
  absl::Status StreamSamples(const std::string& name,
                             const std::function<bool(const v1::StreamSamplesResponse&)>& take,
                             const v1::SourceDetail& detail = {}, bool compress = false) const;

  // Hands each message to `take` until that says false, the daemon ends, or the session named
  // (empty: all are watched) does. `hold`: see v1::WatchSessionsRequest. Where the connection broke
  // and is made again, `resumed` is called, and the next message has all sessions once more.
  absl::Status WatchSessions(
      const std::string& name, bool hold,
      const std::function<bool(const v1::WatchSessionsResponse&)>& take,
      const std::function<void()>& resumed = [] {}) const;

 private:
  Client(Endpoint endpoint, const std::shared_ptr<grpc::ChannelInterface>& channel)
      : endpoint_(std::move(endpoint)),
        stub_(v1::Profiler::NewStub(channel)),
        history_(v1::History::NewStub(channel)) {}
  // Makes the call until it is answered, or there is nobody to answer.
  absl::Status Ask(const std::function<grpc::Status(grpc::ClientContext*)>& call) const;

  Endpoint endpoint_;
  std::shared_ptr<v1::Profiler::Stub> stub_;
  std::shared_ptr<v1::History::Stub> history_;
};

}  // namespace lbrd::client
