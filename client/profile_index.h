// A profile with its ids resolved and its references checked: what every view reads.
//
// Refers to the profile and the session it is built from; both must outlive it, unchanged.
// Immutable after Build(), so any thread may read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/id_table.h"
#include "lbrd/v1/sample.pb.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::client {

// The last component of a binary's path; "[vdso]" and the like stay whole.
absl::string_view BinaryBasename(const v1::Binary& binary);

// A function of a frame, and where in it.
struct FrameCall {
  std::string label;  // as FrameLabel()
  bool inlined = false;
  absl::string_view file;  // of the profile; empty: unknown
  uint32_t line = 0;       // 0: unknown

  // "f (inlined)"
  std::string MarkedLabel() const;
};

class ProfileIndex {
 public:
  // kInvalidArgument: a definition has id 0 or comes twice, a reference has no definition, an
  // entry's event is not one of the session's, or the totals exceed INT64_MAX (so every sum that a
  // view forms over entries of one event fits).
  static absl::StatusOr<ProfileIndex> Build(const v1::Profile& profile, const v1::Session& session);
  static absl::StatusOr<ProfileIndex> Build(v1::Profile&&, const v1::Session&) = delete;
  static absl::StatusOr<ProfileIndex> Build(const v1::Profile&, v1::Session&&) = delete;
  static absl::StatusOr<ProfileIndex> Build(v1::Profile&&, v1::Session&&) = delete;

  const v1::Profile& profile() const { return *profile_; }
  const v1::Session& session() const { return *session_; }

  // The id must come from this profile.
  const v1::Frame& frame(uint32_t id) const { return profile_->definitions().frames(FrameAt(id)); }
  const v1::Stack& stack(uint64_t id) const { return profile_->definitions().stacks(StackAt(id)); }
  const v1::Thread& thread(uint32_t id) const {
    return profile_->definitions().threads(static_cast<int>(threads_.Find(id)));
  }
  // nullptr for id 0: the frame is in no mapping.
  const v1::Binary* binary(uint32_t id) const {
    if (id == 0) return nullptr;
    return &profile_->definitions().binaries(static_cast<int>(binaries_.Find(id)));
  }
  // Where they stand in the profile's definitions.
  int FrameAt(uint32_t id) const { return static_cast<int>(frames_.Find(id)); }
  int StackAt(uint64_t id) const { return static_cast<int>(stacks_.Find(id)); }

  // What to call a frame: its symbol, or "[unknown in libfoo.so]", or "[unknown]". Never a guess.
  std::string FrameLabel(const v1::Frame& frame) const;

  // What a frame stands for, innermost first: the functions inlined there, then its own.
  std::vector<FrameCall> Calls(const v1::Frame& frame) const;

  // At least 1; events past it do not occur in entries.
  uint32_t event_count() const { return static_cast<uint32_t>(totals_.size()); }
  // "cpu-clock"; "event N" where the session does not name it.
  std::string EventName(uint32_t event) const;
  uint64_t samples(uint32_t event) const { return totals_[event].samples; }
  // Sum of Value() over the event's entries.
  uint64_t total(uint32_t event) const;
  // What an entry counts for: its weight; where an event came without weights, its samples.
  uint64_t Value(const v1::ProfileEntry& entry) const;
  // kInvalidArgument: there is no such event; kNotFound: it has no samples.
  absl::Status CheckEventHasSamples(uint32_t event) const;

 private:
  struct Totals {
    uint64_t samples = 0;
    uint64_t weight = 0;
  };
  ProfileIndex(const v1::Profile& profile, const v1::Session& session)
      : profile_(&profile), session_(&session) {}
  absl::Status AddDefinitions();
  absl::Status CheckReferences() const;
  absl::Status AddEntries();

  const v1::Profile* profile_;
  const v1::Session* session_;
  IdTable binaries_;
  IdTable frames_;
  IdTable stacks_;
  IdTable threads_;
  std::vector<Totals> totals_;  // by event
};

// The name a thread's process goes by: its group leader's, or where that is unknown its own.
const std::string& ProcessName(const v1::Thread& thread);

// See ProfileIndex::FrameLabel(); `binary` may be null.
std::string FrameLabel(const v1::Frame& frame, const v1::Binary* binary);

}  // namespace lbrd::client
