// Reads a recording's samples from a daemon over its UNIX socket, as any client of a stream does,
// and prints as JSON how many there were, in what time, and in how many bytes. Nothing is made of
// them beyond what decoding the messages takes.
//
// usage: stream_client LBRD perf.data
#include <cstdio>
#include <vector>

#include "absl/time/clock.h"
#include "client/private_daemon.h"

namespace lbrd::client {
namespace {

struct Received {
  uint64_t samples = 0;
  uint64_t bytes = 0;             // of whole messages
  uint64_t definition_bytes = 0;  // of that
  absl::Time at;
};

double NsBetween(const Received& a, const Received& b) {
  return absl::ToDoubleNanoseconds(b.at - a.at);
}

absl::Status Run(const char* program, const char* path) {
  const absl::StatusOr<PrivateDaemon> daemon = PrivateDaemon::Start(program, /*quiet=*/true);
  if (!daemon.ok()) return daemon.status();
  v1::SessionSpec spec;
  spec.mutable_target()->mutable_recording()->set_path(path);
  spec.set_wait_for_stream(true);
  const absl::StatusOr<v1::Session> session = daemon->client().CreateSession("stream", spec);
  if (!session.ok()) return session.status();
  Received sum;
  std::vector<Received> after;  // each message
  v1::Session ended;
  const absl::Status streamed = daemon->client().StreamSamples(
      session->name(), [&](const v1::StreamSamplesResponse& message) {
        sum.samples += static_cast<uint64_t>(message.samples().time_delta_ns_size());
        sum.bytes += message.ByteSizeLong();
        sum.definition_bytes += message.definitions().ByteSizeLong();
        sum.at = absl::Now();
        after.push_back(sum);
        if (message.has_ended()) ended = message.ended();
        return true;
      });
  if (!streamed.ok()) return streamed;
  if (after.size() < 8) return absl::FailedPreconditionError("the recording is too short");
  // The last quarter: most definitions are out by then. The last message holds the session.
  const Received& from = after[after.size() * 3 / 4];
  const Received& to = after[after.size() - 2];
  const auto samples = static_cast<double>(to.samples - from.samples);
  std::printf(
      "{\"samples\": %lu, \"delivered\": %lu, \"messages\": %zu, \"samples_per_s\": %.0f, "
      "\"bytes_per_sample\": %.2f, \"definitions\": %.2f}\n",
      static_cast<unsigned long>(sum.samples),
      static_cast<unsigned long>(ended.stats().samples_delivered()), after.size(),
      static_cast<double>(to.samples - after.front().samples) * 1e9 / NsBetween(after.front(), to),
      static_cast<double>(to.bytes - from.bytes) / samples,
      static_cast<double>(to.definition_bytes - from.definition_bytes) / samples);
  return absl::OkStatus();
}

}  // namespace
}  // namespace lbrd::client

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: stream_client LBRD perf.data\n");
    return 2;
  }
  const absl::Status status = lbrd::client::Run(argv[1], argv[2]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "stream_client: %s\n", std::string(status.message()).c_str());
  return 1;
}
