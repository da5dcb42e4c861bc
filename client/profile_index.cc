#include "client/profile_index.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::client {
namespace {

template <typename Message>
absl::Status AddAll(absl::string_view kind,
                    const google::protobuf::RepeatedPtrField<Message>& definitions,
                    IdTable* table) {
  uint32_t bad = IdTable::kNone;
  *table = IdTable::Of(definitions, &bad);
  if (bad == IdTable::kNone) return absl::OkStatus();
  const uint64_t id = definitions.Get(static_cast<int>(bad)).id();
  return absl::InvalidArgumentError(
      id == 0 ? absl::StrCat("profile: a ", kind, " has id 0")
              : absl::StrCat("profile: ", kind, " ", id, " is defined twice"));
}

absl::Status Unknown(absl::string_view user, uint64_t user_id, absl::string_view kind,
                     uint64_t id) {
  return absl::InvalidArgumentError(absl::StrCat("profile: ", user, " ", user_id, " refers to ",
                                                 kind, " ", id, ", which is not defined"));
}

// False where the sum would exceed what an int64 holds.
bool Add(uint64_t value, uint64_t& sum) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  if (value > kMax - sum) return false;
  sum += value;
  return true;
}

}  // namespace

absl::string_view BinaryBasename(const v1::Binary& binary) {
  const absl::string_view path = binary.path();
  if (path.empty() || path.front() == '[') return path;
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

const std::string& ProcessName(const v1::Thread& thread) {
  return thread.process_comm().empty() ? thread.comm() : thread.process_comm();
}

std::string FrameCall::MarkedLabel() const {
  return inlined ? absl::StrCat(label, " (inlined)") : label;
}

std::string FrameLabel(const v1::Frame& frame, const v1::Binary* binary) {
  if (!frame.symbol().empty()) return frame.symbol();
  absl::string_view name = binary == nullptr ? absl::string_view() : BinaryBasename(*binary);
  // "[vdso]" inside brackets of its own is hard to read.
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') {
    name = name.substr(1, name.size() - 2);
  }
  if (name.empty() && frame.source() == v1::FRAME_SOURCE_KERNEL) name = "kernel";
  return name.empty() ? "[unknown]" : absl::StrCat("[unknown in ", name, "]");
}

absl::StatusOr<ProfileIndex> ProfileIndex::Build(const v1::Profile& profile,
                                                 const v1::Session& session) {
  ProfileIndex index(profile, session);
  if (absl::Status status = index.AddDefinitions(); !status.ok()) return status;
  if (absl::Status status = index.CheckReferences(); !status.ok()) return status;
  if (absl::Status status = index.AddEntries(); !status.ok()) return status;
  return index;
}

absl::Status ProfileIndex::AddDefinitions() {
  const v1::Definitions& definitions = profile_->definitions();
  absl::Status status = AddAll("binary", definitions.binaries(), &binaries_);
  if (status.ok()) status = AddAll("frame", definitions.frames(), &frames_);
  if (status.ok()) status = AddAll("stack", definitions.stacks(), &stacks_);
  if (status.ok()) status = AddAll("thread", definitions.threads(), &threads_);
  return status;
}

absl::Status ProfileIndex::CheckReferences() const {
  for (const v1::Frame& frame : profile_->definitions().frames()) {
    if (frame.binary_id() != 0 && !binaries_.contains(frame.binary_id())) {
      return Unknown("frame", frame.id(), "binary", frame.binary_id());
    }
  }
  for (const v1::Stack& stack : profile_->definitions().stacks()) {
    for (const uint32_t frame_id : stack.frame_ids()) {
      if (!frames_.contains(frame_id)) return Unknown("stack", stack.id(), "frame", frame_id);
    }
  }
  return absl::OkStatus();
}

absl::Status ProfileIndex::AddEntries() {
  totals_.resize(static_cast<size_t>(std::max(1, session_->events_size())));
  uint64_t all_samples = 0;
  for (int i = 0; i < profile_->entries_size(); ++i) {
    const v1::ProfileEntry& entry = profile_->entries(i);
    const auto number = static_cast<uint64_t>(i);
    if (!stacks_.contains(entry.stack_id())) {
      return Unknown("entry", number, "stack", entry.stack_id());
    }
    if (!threads_.contains(entry.thread_id())) {
      return Unknown("entry", number, "thread", entry.thread_id());
    }
    if (entry.event() >= totals_.size()) return Unknown("entry", number, "event", entry.event());
    Totals& totals = totals_[entry.event()];
    if (!Add(entry.samples(), all_samples) || !Add(entry.weight(), totals.weight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("profile: the totals overflow at entry ", i, "; its counts are damaged"));
    }
    totals.samples += entry.samples();
  }
  return absl::OkStatus();
}

std::string ProfileIndex::FrameLabel(const v1::Frame& frame) const {
  return client::FrameLabel(frame, binary(frame.binary_id()));
}

std::vector<FrameCall> ProfileIndex::Calls(const v1::Frame& frame) const {
  std::vector<FrameCall> calls;
  calls.reserve(static_cast<size_t>(frame.inlined_size()) + 1);
  for (const v1::InlinedCall& call : frame.inlined()) {
    calls.push_back({.label = call.function().empty() ? "[unknown]" : call.function(),
                     .inlined = true,
                     .file = call.file(),
                     .line = call.line()});
  }
  calls.push_back({.label = FrameLabel(frame), .file = frame.file(), .line = frame.line()});
  return calls;
}

std::string ProfileIndex::EventName(uint32_t event) const {
  if (event < static_cast<uint32_t>(session_->events_size())) {
    const std::string& name = session_->events(static_cast<int>(event)).name();
    if (!name.empty()) return name;
  }
  return absl::StrCat("event ", event);
}

uint64_t ProfileIndex::total(uint32_t event) const {
  const Totals& totals = totals_[event];
  return totals.weight != 0 ? totals.weight : totals.samples;
}

uint64_t ProfileIndex::Value(const v1::ProfileEntry& entry) const {
  return totals_[entry.event()].weight != 0 ? entry.weight() : entry.samples();
}

absl::Status ProfileIndex::CheckEventHasSamples(uint32_t event) const {
  if (event >= event_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no event ", event, "; the session has ", event_count()));
  }
  if (total(event) == 0) {
    return absl::NotFoundError(absl::StrCat("the profile of ", session_->name(),
                                            " holds no samples of ", EventName(event)));
  }
  return absl::OkStatus();
}

}  // namespace lbrd::client
