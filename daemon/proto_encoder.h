// What flows, as protobuf: definitions once, then ids.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "daemon/profile_table.h"
#include "daemon/sample.h"
#include "lbrd/v1/sample.pb.h"

namespace lbrd::daemon {

// proto3 strings are UTF-8; names of processes, files and symbols are whatever somebody made them.
// Bytes outside ASCII that do not form UTF-8 become '?'.
std::string ProtoText(absl::string_view text);

// Adds to messages the definitions that their receiver was not yet sent. One per receiver.
//
// Memory: 8 bytes per id sent; forgotten (and then sent again, which is harmless) beyond 4 Mi ids.
class DefinitionEncoder {
 public:
  void AddStack(const StackInfo& stack, v1::Definitions* out);
  void AddThread(const ThreadInfo& thread, v1::Definitions* out);

 private:
  void AddFrame(const FrameInfo& frame, v1::Definitions* out);
  absl::flat_hash_set<uint64_t> stacks_;
  absl::flat_hash_set<uint32_t> frames_;
  absl::flat_hash_set<uint32_t> binaries_;
  absl::flat_hash_set<uint32_t> threads_;
};

void EncodeSamples(std::span<const Sample> samples, DefinitionEncoder* definitions,
                   v1::Definitions* definitions_out, v1::SampleBatch* batch);

void EncodeProfile(const ProfileTable& table, v1::Profile* out);

}  // namespace lbrd::daemon
