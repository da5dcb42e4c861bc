// One client's stream of a session, as messages with sequence numbers, that can go on when the
// connection broke: what was sent is kept for a while and can be sent again.
//
// A client that comes back says what it has; it gets what it lacks, or is told how many samples of
// that are not kept any more. Samples, not encoded messages, are kept: a new connection begins with
// no definitions sent, and gets them all.
//
// Memory: kMaxKeptSamples of what was sent, and the stream's own bound of what was not.
// Thread rules: one thread at a time: the one that serves the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/sample.h"
#include "daemon/sample_stream.h"

namespace lbrd::daemon {

struct StreamMessage {
  uint64_t sequence = 0;
  uint64_t samples_before = 0;
  std::vector<Sample> samples;
  size_t room = 0;  // that they take
};

class ResumableStream {
 public:
  // 4 MiB of samples; what they refer to is shared, but for branches, which count (RoomOf()).
  static constexpr size_t kMaxKeptSamples = (size_t{4} << 20) / sizeof(Sample);

  ResumableStream(std::string name, std::shared_ptr<SampleStream> source)
      : name_(std::move(name)), source_(std::move(source)) {}

  const std::string& name() const { return name_; }
  SampleStream& source() { return *source_; }
  const std::shared_ptr<SampleStream>& shared_source() const { return source_; }

  // The next message, after `max_delay` at most; its samples may be none, and it is then none to be
  // sent. False: there are no more. Valid until the next call.
  bool Next(absl::Duration max_delay, const StreamMessage** message);
  // The sequence number and samples_before of a message without samples, the last.
  StreamMessage Last();
  // The client has all up to message `after`, `samples` samples in all; what came later is sent
  // again.
  void Rewind(uint64_t after, uint64_t samples);
  // Samples that were not kept any more when they were to be sent again.
  uint64_t missing() const { return missing_; }

 private:
  const std::string name_;
  const std::shared_ptr<SampleStream> source_;
  std::deque<StreamMessage> kept_;
  size_t kept_room_ = 0;
  size_t again_ = 0;  // messages at the end of kept_ that are to be sent again
  uint64_t last_sequence_ = 0;
  uint64_t samples_ = 0;  // in all messages
  uint64_t missing_ = 0;
  StreamMessage nothing_;
};

}  // namespace lbrd::daemon
