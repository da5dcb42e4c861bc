// Streamed samples as JSON lines, one object a sample.
//
// Keys: time (ns), pid, tid, comm, cpu (null: not recorded), event, weight,
// stack [{ip, symbol, offset, dso, build_id, source}] leaf first, verdict {state, reason}.
// ip and offset are integers up to 2^64-1; symbol, dso and build_id are null when unknown. Where
// lines are known a frame also has file and line. A function that was inlined is an entry before
// the frame it was inlined in, with that one's ip, offset null, and inlined true.
// Where samples carry branches (another --branch-filter than call-stack): branches, youngest first,
// [{from, to, mispredicted, cycles}], the first two like frames but without what was inlined, the
// last two null where the hardware does not tell.
//
// Where the daemon's engine died there is an object without these keys between samples:
// {"gap": {from, to (ns), why, samples_not_received}}. Samples of in between are missing, how many
// nobody knows; samples_not_received of before had been sent and did not arrive.
//
// Keeps every definition of the stream, since later messages refer to them: binaries, frames and
// threads as the text they become. The text of stacks is cached, up to kMaxCacheBytes. Not
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "lbrd/v1/profiler.pb.h"

namespace lbrd::client {

// Appends `text` as a JSON string with its quotes; what is not valid UTF-8 becomes U+FFFD.
void AppendJsonString(absl::string_view text, std::string& out);

class JsonlWriter {
 public:
  // Rendered stacks kept; when there are more, all are dropped and rendered again as needed.
  static constexpr size_t kMaxCacheBytes = size_t{64} << 20;

  // `session` names the events.
  explicit JsonlWriter(const v1::Session& session, size_t max_cache_bytes = kMaxCacheBytes);

  // Appends a line for each of the message's samples to `out`. kInvalidArgument: columns of unequal
  // length, or an id that no message has defined; `out` is then as it was.
  absl::Status Append(const v1::StreamSamplesResponse& message, std::string& out);

 private:
  struct Stack {
    std::vector<uint32_t> frame_ids;
    v1::StackState state = v1::STACK_STATE_UNSPECIFIED;
    std::string reason;
  };

  // Another engine's ids have nothing to do with those of the one before.
  void ForgetDefinitions();
  absl::Status AddDefinitions(const v1::Definitions& definitions);
  absl::Status CheckBatch(const v1::SampleBatch& batch) const;
  absl::Status CheckStack(uint64_t stack_id) const;
  absl::Status CheckBranches(const v1::SampleBatch& batch) const;
  const std::string& StackText(uint64_t stack_id);
  absl::string_view PlaceText(uint32_t frame_id) const;
  // Of the sample's branches, from `first` on, as a key and its value.
  void AppendBranches(const v1::SampleBatch& batch, int first, uint32_t count,
                      std::string& out) const;

  const size_t max_cache_bytes_;
  std::vector<std::string> events_;                      // ,"event":"…"
  absl::flat_hash_map<uint32_t, std::string> binaries_;  // ,"dso":…,"build_id":…
  absl::flat_hash_map<uint32_t, std::string> threads_;   // ,"pid":…,"tid":…,"comm":…
  absl::flat_hash_map<uint32_t, std::string> frames_;    // {"ip":…}
  // Of those with inlined functions, where in the text their own object begins.
  absl::flat_hash_map<uint32_t, size_t> own_parts_;
  absl::flat_hash_map<uint64_t, Stack> stacks_;
  absl::flat_hash_map<uint64_t, std::string> stack_texts_;  // ,"stack":[…],"verdict":{…}}
  size_t cache_bytes_ = 0;
};

}  // namespace lbrd::client
