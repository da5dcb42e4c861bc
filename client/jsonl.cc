#include "client/jsonl.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

constexpr uint32_t kCpuNotRecorded = std::numeric_limits<uint32_t>::max();

// Of a branch's flags, as the contract numbers them.
constexpr uint64_t kMispredicted = 1;
constexpr uint64_t kPredicted = 2;
constexpr int kCyclesShift = 4;
constexpr uint64_t kCyclesMask = 0xffff;

bool IsPlain(char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; }

void AppendJsonStringOrNull(absl::string_view text, std::string& out) {
  if (text.empty()) {
    out.append("null");
  } else {
    AppendJsonString(text, out);
  }
}

void AppendPlace(absl::string_view file, uint32_t line, std::string& out) {
  if (file.empty()) return;
  out.append(",\"file\":");
  AppendJsonString(file, out);
  absl::StrAppend(&out, ",\"line\":", line);
}

absl::Status Undefined(absl::string_view kind, uint64_t id) {
  return absl::InvalidArgumentError(
      absl::StrCat("sample stream: ", kind, " ", id, " is used but was never defined"));
}

}  // namespace

void AppendJsonString(absl::string_view text, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  out.push_back('"');
  while (!text.empty()) {
    // Nearly all text is plain: it goes over in runs.
    const size_t run = static_cast<size_t>(
        std::distance(text.begin(), std::find_if_not(text.begin(), text.end(), IsPlain)));
    out.append(text.data(), run);
    text.remove_prefix(run);
    if (text.empty()) break;
    const CodePoint c = DecodeUtf8(text);
    if (!c.valid) {
      out.append("\\ufffd");
    } else if (c.value == '"' || c.value == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c.value));
    } else if (c.value < 0x20 || c.value == 0x7F) {
      out.append("\\u00");
      out.push_back(kHex[c.value >> 4]);
      out.push_back(kHex[c.value & 15]);
    } else {
      out.append(text.data(), c.bytes);
    }
    text.remove_prefix(c.bytes);
  }
  out.push_back('"');
}

JsonlWriter::JsonlWriter(const v1::Session& session, size_t max_cache_bytes)
    : max_cache_bytes_(max_cache_bytes) {
  for (const v1::SessionEvent& event : session.events()) {
    std::string& text = events_.emplace_back(",\"event\":");
    AppendJsonString(event.name(), text);
  }
  // A session that names no events still has event 0.
  if (events_.empty()) events_.push_back(",\"event\":null");
}

absl::Status JsonlWriter::AddDefinitions(const v1::Definitions& definitions) {
  for (const v1::Binary& binary : definitions.binaries()) {
    std::string text = ",\"dso\":";
    AppendJsonStringOrNull(binary.path(), text);
    text.append(",\"build_id\":");
    AppendJsonStringOrNull(binary.build_id(), text);
    binaries_.try_emplace(binary.id(), std::move(text));
  }
  for (const v1::Frame& frame : definitions.frames()) {
    absl::string_view binary = ",\"dso\":null,\"build_id\":null";
    if (frame.binary_id() != 0) {
      const auto at = binaries_.find(frame.binary_id());
      if (at == binaries_.end()) return Undefined("binary", frame.binary_id());
      binary = at->second;
    }
    std::string text;
    for (const v1::InlinedCall& call : frame.inlined()) {
      absl::StrAppend(&text, "{\"ip\":", frame.ip(), ",\"symbol\":");
      AppendJsonStringOrNull(call.function(), text);
      absl::StrAppend(&text, ",\"offset\":null", binary, ",\"source\":\"",
                      FrameSourceName(frame.source()), "\",\"inlined\":true");
      AppendPlace(call.file(), call.line(), text);
      text.append("},");
    }
    if (!text.empty()) own_parts_.try_emplace(frame.id(), text.size());
    absl::StrAppend(&text, "{\"ip\":", frame.ip(), ",\"symbol\":");
    AppendJsonStringOrNull(frame.symbol(), text);
    absl::StrAppend(&text, ",\"offset\":", frame.offset(), binary, ",\"source\":\"",
                    FrameSourceName(frame.source()), "\"");
    AppendPlace(frame.file(), frame.line(), text);
    text.push_back('}');
    text.shrink_to_fit();
    frames_.try_emplace(frame.id(), std::move(text));
  }
  for (const v1::Stack& stack : definitions.stacks()) {
    stacks_.try_emplace(
        stack.id(), Stack{std::vector<uint32_t>(stack.frame_ids().begin(), stack.frame_ids().end()),
                          stack.verdict().state(), stack.verdict().reason()});
  }
  for (const v1::Thread& thread : definitions.threads()) {
    std::string text =
        absl::StrCat(",\"pid\":", thread.pid(), ",\"tid\":", thread.tid(), ",\"comm\":");
    AppendJsonString(thread.comm(), text);
    threads_.try_emplace(thread.id(), std::move(text));
  }
  return absl::OkStatus();
}

absl::Status JsonlWriter::CheckStack(uint64_t stack_id) const {
  // What is in the cache was checked when it was rendered.
  if (stack_texts_.contains(stack_id)) return absl::OkStatus();
  const auto stack = stacks_.find(stack_id);
  if (stack == stacks_.end()) return Undefined("stack", stack_id);
  for (const uint32_t frame_id : stack->second.frame_ids) {
    if (!frames_.contains(frame_id)) return Undefined("frame", frame_id);
  }
  return absl::OkStatus();
}

absl::Status JsonlWriter::CheckBranches(const v1::SampleBatch& batch) const {
  uint64_t count = 0;
  for (const uint32_t of_sample : batch.branch_counts()) count += of_sample;
  if (count != static_cast<uint64_t>(batch.branch_from_frames_size()) ||
      batch.branch_to_frames_size() != batch.branch_from_frames_size() ||
      batch.branch_flags_size() != batch.branch_from_frames_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sample stream: the columns of branches differ in length: ", count,
                     " branches, ", batch.branch_from_frames_size(), " from, ",
                     batch.branch_to_frames_size(), " to, ", batch.branch_flags_size(), " flags"));
  }
  for (const auto* ids : {&batch.branch_from_frames(), &batch.branch_to_frames()}) {
    for (const uint32_t id : *ids) {
      if (!frames_.contains(id)) return Undefined("frame", id);
    }
  }
  return absl::OkStatus();
}

absl::Status JsonlWriter::CheckBatch(const v1::SampleBatch& batch) const {
  const int size = batch.stack_ids_size();
  const auto optional_column = [&](int column) { return column == 0 || column == size; };
  if (batch.time_delta_ns_size() != size || batch.thread_ids_size() != size ||
      batch.weights_size() != size || !optional_column(batch.cpus_size()) ||
      !optional_column(batch.events_size()) || !optional_column(batch.branch_counts_size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sample stream: the columns of a batch differ in length: ", size, " stacks, ",
        batch.time_delta_ns_size(), " times, ", batch.thread_ids_size(), " threads, ",
        batch.weights_size(), " weights, ", batch.cpus_size(), " CPUs, ", batch.events_size(),
        " events, ", batch.branch_counts_size(), " counts of branches"));
  }
  for (const uint32_t id : batch.thread_ids()) {
    if (!threads_.contains(id)) return Undefined("thread", id);
  }
  for (const uint32_t event : batch.events()) {
    if (event >= events_.size()) return Undefined("event", event);
  }
  for (const uint64_t id : batch.stack_ids()) {
    if (absl::Status status = CheckStack(id); !status.ok()) return status;
  }
  return CheckBranches(batch);
}

absl::string_view JsonlWriter::PlaceText(uint32_t frame_id) const {
  const absl::string_view text = frames_.at(frame_id);
  const auto own = own_parts_.find(frame_id);
  return own == own_parts_.end() ? text : text.substr(own->second);
}

void JsonlWriter::AppendBranches(const v1::SampleBatch& batch, int first, uint32_t count,
                                 std::string& out) const {
  out.append(",\"branches\":[");
  for (int i = first; i < first + static_cast<int>(count); ++i) {
    const uint64_t flags = batch.branch_flags(i);
    const uint64_t cycles = (flags >> kCyclesShift) & kCyclesMask;
    absl::StrAppend(&out, i == first ? "" : ",",
                    "{\"from\":", PlaceText(batch.branch_from_frames(i)),
                    ",\"to\":", PlaceText(batch.branch_to_frames(i)), ",\"mispredicted\":",
                    (flags & kMispredicted) != 0 ? "true"
                    : (flags & kPredicted) != 0  ? "false"
                                                 : "null",
                    ",\"cycles\":");
    cycles == 0 ? absl::StrAppend(&out, "null}") : absl::StrAppend(&out, cycles, "}");
  }
  out.push_back(']');
}

const std::string& JsonlWriter::StackText(uint64_t stack_id) {
  if (const auto cached = stack_texts_.find(stack_id); cached != stack_texts_.end()) {
    return cached->second;
  }
  const Stack& stack = stacks_.at(stack_id);
  std::string text = ",\"stack\":[";
  for (size_t i = 0; i < stack.frame_ids.size(); ++i) {
    if (i != 0) text.push_back(',');
    text.append(frames_.at(stack.frame_ids[i]));
  }
  absl::StrAppend(&text, "],\"verdict\":{\"state\":\"", StackStateName(stack.state),
                  "\",\"reason\":");
  AppendJsonString(stack.reason, text);
  text.append("}}\n");
  text.shrink_to_fit();
  if (cache_bytes_ + text.size() > max_cache_bytes_) {
    stack_texts_.clear();
    cache_bytes_ = 0;
  }
  cache_bytes_ += text.size();
  return stack_texts_.insert_or_assign(stack_id, std::move(text)).first->second;
}

void JsonlWriter::ForgetDefinitions() {
  binaries_.clear();
  threads_.clear();
  frames_.clear();
  own_parts_.clear();
  stacks_.clear();
  stack_texts_.clear();
  cache_bytes_ = 0;
}

absl::Status JsonlWriter::Append(const v1::StreamSamplesResponse& message, std::string& out) {
  if (message.gaps_size() != 0) ForgetDefinitions();
  if (absl::Status status = AddDefinitions(message.definitions()); !status.ok()) return status;
  const v1::SampleBatch& batch = message.samples();
  if (absl::Status status = CheckBatch(batch); !status.ok()) return status;
  for (const v1::StreamGap& gap : message.gaps()) {
    absl::StrAppend(&out, "{\"gap\":{\"from\":", gap.from_ns(), ",\"to\":", gap.to_ns(),
                    ",\"why\":");
    AppendJsonString(gap.why(), out);
    absl::StrAppend(&out, ",\"samples_not_received\":", gap.samples_not_received(), "}}\n");
  }
  uint64_t time = batch.first_time_ns();
  int branch = 0;
  for (int i = 0; i < batch.stack_ids_size(); ++i) {
    time += static_cast<uint64_t>(batch.time_delta_ns(i));
    const uint32_t cpu = batch.cpus_size() == 0 ? kCpuNotRecorded : batch.cpus(i);
    const uint32_t event = batch.events_size() == 0 ? 0 : batch.events(i);
    absl::StrAppend(&out, "{\"time\":", time, threads_.at(batch.thread_ids(i)));
    if (cpu == kCpuNotRecorded) {
      out.append(",\"cpu\":null");
    } else {
      absl::StrAppend(&out, ",\"cpu\":", cpu);
    }
    absl::StrAppend(&out, events_[event], ",\"weight\":", batch.weights(i));
    if (batch.branch_counts_size() != 0) {
      AppendBranches(batch, branch, batch.branch_counts(i), out);
      branch += static_cast<int>(batch.branch_counts(i));
    }
    out.append(StackText(batch.stack_ids(i)));
  }
  return absl::OkStatus();
}

}  // namespace lbrd::client
