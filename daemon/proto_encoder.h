// What flows, as protobuf: definitions once, then ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

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
  // `keep_frames`: TakeFrames() will be asked.
  explicit DefinitionEncoder(bool keep_frames = false) : keep_frames_(keep_frames) {}

  void AddStack(const StackInfo& stack, v1::Definitions* out);
  void AddThread(const ThreadInfo& thread, v1::Definitions* out);
  // Where they begin and end.
  void AddBranches(const Branches& branches, v1::Definitions* out);
  // The frames added since it was last asked, in their order.
  std::vector<std::shared_ptr<const FrameInfo>> TakeFrames() { return std::move(new_frames_); }

 private:
  void AddFrame(const std::shared_ptr<const FrameInfo>& frame, v1::Definitions* out);
  void ForgetIfTooMany();
  const bool keep_frames_;
  std::vector<std::shared_ptr<const FrameInfo>> new_frames_;
  absl::flat_hash_set<uint64_t> stacks_;
  absl::flat_hash_set<uint32_t> frames_;
  absl::flat_hash_set<uint32_t> binaries_;
  absl::flat_hash_set<uint32_t> threads_;
};

void EncodeSamples(std::span<const Sample> samples, DefinitionEncoder* definitions,
                   v1::Definitions* definitions_out, v1::SampleBatch* batch);

// `definitions`: fresh.
void EncodeProfile(std::span<const ProfileTable::Entry> entries, DefinitionEncoder* definitions,
                   v1::Profile* out);

}  // namespace lbrd::daemon
