#include "client/client.h"

#include <google/protobuf/arena.h>
#include <grpcpp/grpcpp.h>
#include <sys/random.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lbrd::client {
namespace {

// gRPC's word for a connection that the daemon does not take, and why: it would not the next time.
constexpr char kTurnedAway[] = "GOAWAY";
// Its word for a connection that was never made.
constexpr char kNotConnected[] = "failed to connect";
// Its words for certificates that either side does not take.
constexpr const char* kNoTrust[] = {"handshake", "Peer name"};
constexpr absl::Duration kResumePause = absl::Milliseconds(50);

absl::Status ToAbsl(const grpc::Status& status, const Endpoint& endpoint) {
  const std::string& why = status.error_message();
  if (endpoint.remote() && status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      absl::StrContains(why, kNotConnected)) {
    return absl::UnavailableError(
        absl::StrCat("no TLS connection with ", endpoint.host, " (", why,
                     "): its certificate must be issued by --tls-ca for the name in --host, and "
                     "yours by its tls-ca"));
  }
  // gRPC's and absl's codes are the same numbers.
  // gRPC's own words for what happens when lbrd ends, or dies, in the middle of a call.
  for (const char* broken :
       {"Socket closed", "Connection reset", "Stream removed", "Broken pipe"}) {
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE ||
        !absl::StrContains(status.error_message(), broken)) {
      continue;
    }
    return absl::UnavailableError(
        absl::StrCat("the connection to lbrd broke (", status.error_message(),
                     "): it has ended, or died and started again; its log says which"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

bool MayComeBack(const absl::Status& status) {
  return absl::IsUnavailable(status) && !absl::StrContains(status.message(), kTurnedAway) &&
         std::none_of(std::begin(kNoTrust), std::end(kNoTrust), [&status](const char* words) {
           return absl::StrContains(status.message(), words);
         });
}

// Whether what ended with `status` is to be begun again; if so, a moment has passed. *give_up: when
// no more, InfiniteFuture() as long as it went well.
bool MayTryAgain(const Endpoint& endpoint, const absl::Status& status, absl::Time* give_up) {
  const absl::Time now = absl::Now();
  *give_up = std::min(*give_up, now + kResumeWithin);
  if (!MayComeBack(status) || now >= *give_up || !TryEndpoint(endpoint).ok()) return false;
  absl::SleepFor(kResumePause);
  return true;
}

// Reads the stream that `open` begins until `take` says false, and begins it again where it breaks,
// had it begun or not. `take` is told whether a message is the first since it was begun again.
template <typename Message, typename Open, typename Take>
absl::Status Follow(const Endpoint& endpoint, const Open& open, const Take& take) {
  absl::Time give_up = absl::InfiniteFuture();
  while (true) {
    grpc::ClientContext context;
    const std::unique_ptr<grpc::ClientReader<Message>> reader = open(&context);
    Message message;
    while (reader->Read(&message)) {
      const bool again = give_up != absl::InfiniteFuture();
      give_up = absl::InfiniteFuture();
      if (take(message, again)) continue;
      context.TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
    const absl::Status status = ToAbsl(reader->Finish(), endpoint);
    if (!MayTryAgain(endpoint, status, &give_up)) return status;
  }
}

// Of a request, so that it can be sent again.
std::string RandomId() {
  uint64_t random[2] = {};
  if (getrandom(random, sizeof(random), 0) < 0) return "";
  return absl::StrCat(absl::Hex(random[0]), absl::Hex(random[1]));
}

// Of the youngest of the samples; 0: there are none.
uint64_t YoungestNs(const v1::SampleBatch& samples) {
  uint64_t time_ns = samples.first_time_ns();
  uint64_t youngest_ns = 0;
  for (const int64_t delta_ns : samples.time_delta_ns()) {
    time_ns += static_cast<uint64_t>(delta_ns);
    youngest_ns = std::max(youngest_ns, time_ns);
  }
  return youngest_ns;
}

}  // namespace

absl::StatusOr<Client> Client::Connect(const Endpoint& endpoint) {
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = OpenChannel(endpoint);
  if (!channel.ok()) return channel.status();
  if (absl::Status tried = TryEndpoint(endpoint); !tried.ok()) return tried;
  return Client(endpoint, *channel);
}

absl::Status Client::Ask(const std::function<grpc::Status(grpc::ClientContext*)>& call) const {
  absl::Time give_up = absl::InfiniteFuture();
  while (true) {
    grpc::ClientContext context;
    const absl::Status status = ToAbsl(call(&context), endpoint_);
    if (!MayTryAgain(endpoint_, status, &give_up)) return status;
  }
}

absl::StatusOr<v1::Capabilities> Client::GetCapabilities(bool run_experiments) const {
  v1::GetCapabilitiesRequest request;
  request.set_run_experiments(run_experiments);
  v1::Capabilities response;
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    return stub_->GetCapabilities(context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::DaemonStats> Client::GetStats() const {
  v1::DaemonStats response;
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    return stub_->GetStats(context, v1::GetStatsRequest(), &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Session> Client::CreateSession(const std::string& name,
                                                  const v1::SessionSpec& spec) const {
  v1::CreateSessionRequest request;
  request.set_session_id(name);
  request.set_request_id(RandomId());
  *request.mutable_spec() = spec;
  v1::Session response;
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    return stub_->CreateSession(context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Session> Client::GetSession(const std::string& name) const {
  v1::GetSessionRequest request;
  request.set_name(name);
  v1::Session response;
  const absl::Status status = Ask(
      [&](grpc::ClientContext* context) { return stub_->GetSession(context, request, &response); });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<std::vector<v1::Session>> Client::ListSessions() const {
  std::vector<v1::Session> sessions;
  v1::ListSessionsRequest request;
  do {
    v1::ListSessionsResponse response;
    const absl::Status status = Ask([&](grpc::ClientContext* context) {
      return stub_->ListSessions(context, request, &response);
    });
    if (!status.ok()) return status;
    for (v1::Session& session : *response.mutable_sessions()) {
      sessions.push_back(std::move(session));
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return sessions;
}

absl::StatusOr<v1::Session> Client::StopSession(const std::string& name) const {
  v1::StopSessionRequest request;
  request.set_name(name);
  v1::Session response;
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    return stub_->StopSession(context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::Status Client::DeleteSession(const std::string& name) const {
  v1::DeleteSessionRequest request;
  request.set_name(name);
  v1::DeleteSessionResponse response;
  int asked = 0;
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    ++asked;
    return stub_->DeleteSession(context, request, &response);
  });
  // The first request has done it, and its answer did not arrive.
  return asked > 1 && absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::shared_ptr<v1::GetProfileResponse>> Client::GetProfile(
    const std::string& name, const v1::SourceDetail& detail) const {
  v1::GetProfileRequest request;
  request.set_name(name);
  *request.mutable_source_detail() = detail;
  google::protobuf::ArenaOptions blocks;
  blocks.max_block_size = size_t{1} << 20;
  const auto arena = std::make_shared<google::protobuf::Arena>(blocks);
  const std::shared_ptr<v1::GetProfileResponse> response(
      arena, google::protobuf::Arena::CreateMessage<v1::GetProfileResponse>(arena.get()));
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    return stub_->GetProfile(context, request, response.get());
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Definitions> Client::NameFrames(const v1::NameFramesRequest& request) const {
  v1::NameFramesResponse response;
  const absl::Status status = Ask(
      [&](grpc::ClientContext* context) { return stub_->NameFrames(context, request, &response); });
  if (!status.ok()) return status;
  return std::move(*response.mutable_definitions());
}

absl::StatusOr<v1::QueryProfileResponse> Client::QueryProfile(
    const v1::QueryProfileRequest& request) const {
  v1::QueryProfileResponse response;
  const absl::Status status = Ask([&](grpc::ClientContext* context) {
    return history_->QueryProfile(context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::Status Client::StreamSamples(
    const std::string& name, const std::function<bool(const v1::StreamSamplesResponse&)>& take,
    const v1::SourceDetail& detail, bool compress) const {
  v1::StreamSamplesRequest request;
  request.set_name(name);
  *request.mutable_source_detail() = detail;
  request.set_compress(compress);
  return Follow<v1::StreamSamplesResponse>(
      endpoint_,
      [&](grpc::ClientContext* context) { return stub_->StreamSamples(context, request); },
      [&](const v1::StreamSamplesResponse& message, bool) {
        request.set_resume(message.stream());
        request.set_resume_after(message.sequence());
        request.set_resume_samples(message.samples_before() +
                                   static_cast<uint64_t>(message.samples().stack_ids_size()));
        request.set_resume_time_ns(
            std::max(request.resume_time_ns(), YoungestNs(message.samples())));
        return take(message);
      });
}

absl::Status Client::WatchSessions(
    const std::string& name, bool hold,
    const std::function<bool(const v1::WatchSessionsResponse&)>& take,
    const std::function<void()>& resumed) const {
  v1::WatchSessionsRequest request;
  request.set_name(name);
  request.set_hold(hold);
  return Follow<v1::WatchSessionsResponse>(
      endpoint_,
      [&](grpc::ClientContext* context) { return stub_->WatchSessions(context, request); },
      [&](const v1::WatchSessionsResponse& message, bool again) {
        if (again) resumed();
        return take(message);
      });
}

}  // namespace lbrd::client
