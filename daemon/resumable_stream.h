// One client's stream of a session, as messages with sequence numbers, that can go on when the
// connection broke: what was sent is kept for a while and can be sent again.
//
// A client that comes back says what it has; it gets what it lacks, or is told how many samples of
// that are not kept any more. Samples, not encoded messages, are kept: a new connection begins with
// no definitions sent, and gets them all.
//
// How far it has come stands in the journal before a message is sent, so that the stream can go on
// in the next engine (GoOn()). What this one had in memory is then lost: the next message, or the
// last, tells from when to when.
//
// Memory: kMaxKeptSamples of what was sent, less where the memory of all samples is full
// (daemon/sample_memory.h), and the stream's own bound of what was not.
// Thread rules: one thread at a time: the one that serves the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/sample.h"
#include "daemon/sample_stream.h"
#include "daemon/session_journal.h"

namespace lbrd::daemon {

// Between an engine and the next.
struct StreamBreak {
  uint64_t from_ns = 0;  // CLOCK_MONOTONIC: the client has all of before
  uint64_t to_ns = 0;
  uint64_t not_received = 0;  // samples that had been sent
  std::string why;
};

struct StreamMessage {
  uint64_t sequence = 0;
  uint64_t samples_before = 0;
  std::vector<Sample> samples;
  size_t room = 0;                 // that they take
  std::optional<StreamBreak> gap;  // before its samples
};

class ResumableStream {
 public:
  // 4 MiB of samples; what they refer to is shared, but for branches, which count (RoomOf()).
  static constexpr size_t kMaxKeptSamples = (size_t{4} << 20) / sizeof(Sample);

  ResumableStream(std::string name, std::shared_ptr<SampleStream> source)
      : name_(std::move(name)), source_(std::move(source)) {}

  // Where the next engine finds it; `id`: the session's in the journal. Before the first message.
  void KeepIn(std::unique_ptr<SessionJournal::StreamEntry> entry, uint64_t id, uint64_t now_ns);
  // Goes on where the stream of an engine that died was.
  void GoOn(const StreamPoint& point, std::string why, uint64_t now_ns);

  const std::string& name() const { return name_; }
  SampleStream& source() { return *source_; }
  const std::shared_ptr<SampleStream>& shared_source() const { return source_; }

  // The next message, after `max_delay` at most; its samples may be none, and it is then none to be
  // sent. False: there are no more. Valid until the next call.
  bool Next(absl::Duration max_delay, const StreamMessage** message);
  // The sequence number and samples_before of a message without samples, the last.
  StreamMessage Last();
  // What a client that has nothing yet is told first: the number of the last message, and no
  // samples.
  StreamMessage Greeting() const;
  // The client has all up to message `after`, `samples` samples in all, the youngest of `last_ns`
  // (0: it does not say); what came later is sent again.
  void Rewind(uint64_t after, uint64_t samples, uint64_t last_ns = 0);
  // Samples that were lost because the client was too slow.
  uint64_t dropped() const { return point_.dropped + source_->dropped(); }
  // Samples that were not kept any more when they were to be sent again.
  uint64_t missing() const { return missing_; }

 private:
  void KeepPoint();

  const std::string name_;
  const std::shared_ptr<SampleStream> source_;
  std::deque<StreamMessage> kept_;
  size_t kept_room_ = 0;
  MemoryCharge kept_memory_;
  size_t again_ = 0;  // messages at the end of kept_ that are to be sent again
  uint64_t last_sequence_ = 0;
  uint64_t samples_ = 0;  // in all messages
  uint64_t missing_ = 0;
  StreamMessage nothing_;
  std::unique_ptr<SessionJournal::StreamEntry> entry_;  // null: it is not kept
  // As it was left by the engine before, or began; with what has changed since, in the journal.
  StreamPoint point_;
  uint64_t last_ns_ = 0;            // of the youngest sample sent
  std::optional<StreamBreak> gap_;  // not told yet
};

}  // namespace lbrd::daemon
