#include "daemon/proto_encoder.h"

#include <algorithm>

namespace lbrd::daemon {
namespace {

constexpr size_t kMaxIds = 4u << 20;

v1::FrameSource ProtoSource(unwind::FrameSource source) {
  switch (source) {
    case unwind::FrameSource::kKernel:
      return v1::FRAME_SOURCE_KERNEL;
    case unwind::FrameSource::kSampledIp:
      return v1::FRAME_SOURCE_SAMPLED_IP;
    case unwind::FrameSource::kLbr:
      return v1::FRAME_SOURCE_LBR;
    case unwind::FrameSource::kKernelDeferred:
      return v1::FRAME_SOURCE_KERNEL_DEFERRED;
    case unwind::FrameSource::kDwarf:
      return v1::FRAME_SOURCE_DWARF;
    case unwind::FrameSource::kFramePointer:
      return v1::FRAME_SOURCE_FRAME_POINTER;
    case unwind::FrameSource::kGuess:
      return v1::FRAME_SOURCE_GUESS;
    case unwind::FrameSource::kStitched:
      return v1::FRAME_SOURCE_STITCHED;
  }
  return v1::FRAME_SOURCE_UNSPECIFIED;
}

v1::StackState ProtoState(unwind::StackState state) {
  switch (state) {
    case unwind::StackState::kComplete:
      return v1::STACK_STATE_COMPLETE;
    case unwind::StackState::kTruncated:
      return v1::STACK_STATE_TRUNCATED;
    case unwind::StackState::kUnknown:
      return v1::STACK_STATE_UNKNOWN;
    case unwind::StackState::kStitched:
      return v1::STACK_STATE_STITCHED;
  }
  return v1::STACK_STATE_UNSPECIFIED;
}

}  // namespace

std::string ProtoText(absl::string_view text) {
  // As nearly all is.
  if (std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; })) {
    return std::string(text);
  }
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80                         ? 1
                          : lead >> 5 == 0x6 && lead >= 0xc2  ? 2
                          : lead >> 4 == 0xe                  ? 3
                          : lead >> 3 == 0x1e && lead <= 0xf4 ? 4
                                                              : 0;
    bool good = length != 0 && i + length <= text.size();
    for (size_t k = 1; good && k < length; ++k) {
      good = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    }
    if (good && length == 3) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      good = !(lead == 0xe0 && second < 0xa0) && !(lead == 0xed && second >= 0xa0);
    } else if (good && length == 4) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      good = !(lead == 0xf0 && second < 0x90) && !(lead == 0xf4 && second >= 0x90);
    }
    if (good) {
      out.append(text.data() + i, length);
      i += length;
    } else {
      out.push_back('?');
      ++i;
    }
  }
  return out;
}

void DefinitionEncoder::AddFrame(const std::shared_ptr<const FrameInfo>& added,
                                 v1::Definitions* out) {
  const FrameInfo& frame = *added;
  if (!frames_.insert(frame.id).second) return;
  if (keep_frames_) new_frames_.push_back(added);
  v1::Frame* encoded = out->add_frames();
  encoded->set_id(frame.id);
  encoded->set_ip(frame.ip);
  encoded->set_source(ProtoSource(frame.source));
  encoded->set_symbol(ProtoText(frame.symbol));
  encoded->set_offset(frame.offset);
  encoded->set_file(ProtoText(frame.file));
  encoded->set_line(frame.line);
  if (frame.binary == nullptr) return;
  encoded->set_binary_id(frame.binary->id);
  if (!binaries_.insert(frame.binary->id).second) return;
  v1::Binary* binary = out->add_binaries();
  binary->set_id(frame.binary->id);
  binary->set_path(ProtoText(frame.binary->path));
  binary->set_build_id(frame.binary->build_id);
  binary->set_symbols_missing(ProtoText(frame.binary->symbols_missing));
}

void DefinitionEncoder::ForgetIfTooMany() {
  if (stacks_.size() + frames_.size() <= kMaxIds) return;
  stacks_.clear();
  frames_.clear();
  binaries_.clear();
}

void DefinitionEncoder::AddBranches(const Branches& branches, v1::Definitions* out) {
  ForgetIfTooMany();
  for (const BranchInfo& branch : branches) {
    AddFrame(branch.from, out);
    AddFrame(branch.to, out);
  }
}

void DefinitionEncoder::AddStack(const StackInfo& stack, v1::Definitions* out) {
  ForgetIfTooMany();
  if (!stacks_.insert(stack.id).second) return;
  v1::Stack* encoded = out->add_stacks();
  encoded->set_id(stack.id);
  encoded->mutable_frame_ids()->Reserve(static_cast<int>(stack.frames.size()));
  for (const auto& frame : stack.frames) {
    AddFrame(frame, out);
    encoded->add_frame_ids(frame->id);
  }
  encoded->mutable_verdict()->set_state(ProtoState(stack.verdict.state));
  const absl::string_view reason = unwind::StackReasonName(stack.verdict.reason);
  encoded->mutable_verdict()->set_reason(std::string(reason));
  if (stack.verdict.state == unwind::StackState::kStitched) {
    encoded->mutable_verdict()->set_confidence(unwind::IsWhole(stack.verdict) ? v1::CONFIDENCE_HIGH
                                                                              : v1::CONFIDENCE_LOW);
  }
}

void DefinitionEncoder::AddThread(const ThreadInfo& thread, v1::Definitions* out) {
  if (threads_.size() > kMaxIds) threads_.clear();
  if (!threads_.insert(thread.id).second) return;
  v1::Thread* encoded = out->add_threads();
  encoded->set_id(thread.id);
  encoded->set_pid(thread.pid);
  encoded->set_tid(thread.tid);
  encoded->set_comm(ProtoText(thread.comm));
  encoded->set_process_comm(ProtoText(thread.process_comm));
}

static void EncodeBranches(std::span<const Sample> samples, DefinitionEncoder* definitions,
                           v1::Definitions* definitions_out, v1::SampleBatch* batch) {
  for (const Sample& sample : samples) {
    batch->add_branch_counts(
        sample.branches == nullptr ? 0 : static_cast<uint32_t>(sample.branches->size()));
    if (sample.branches == nullptr) continue;
    definitions->AddBranches(*sample.branches, definitions_out);
    for (const BranchInfo& branch : *sample.branches) {
      batch->add_branch_from_frames(branch.from->id);
      batch->add_branch_to_frames(branch.to->id);
      batch->add_branch_flags(branch.flags);
    }
  }
}

void EncodeSamples(std::span<const Sample> samples, DefinitionEncoder* definitions,
                   v1::Definitions* definitions_out, v1::SampleBatch* batch) {
  if (samples.empty()) return;
  uint64_t time = samples.front().time_ns;
  batch->set_first_time_ns(time);
  bool one_event = true;
  bool branches = false;
  for (const Sample& sample : samples) {
    definitions->AddStack(*sample.stack, definitions_out);
    definitions->AddThread(*sample.thread, definitions_out);
    batch->add_time_delta_ns(static_cast<int64_t>(sample.time_ns - time));
    time = sample.time_ns;
    batch->add_thread_ids(sample.thread->id);
    batch->add_stack_ids(sample.stack->id);
    batch->add_cpus(sample.cpu);
    batch->add_weights(sample.weight);
    one_event = one_event && sample.event == 0;
    branches = branches || sample.branches != nullptr;
  }
  if (branches) EncodeBranches(samples, definitions, definitions_out, batch);
  if (one_event) return;
  for (const Sample& sample : samples) batch->add_events(sample.event);
}

void EncodeProfile(std::span<const ProfileTable::Entry> entries, DefinitionEncoder* definitions,
                   v1::Profile* out) {
  for (const auto& [key, sum] : entries) {
    const auto& [stack, thread, event] = key;
    definitions->AddStack(*stack, out->mutable_definitions());
    definitions->AddThread(*thread, out->mutable_definitions());
    v1::ProfileEntry* entry = out->add_entries();
    entry->set_stack_id(stack->id);
    entry->set_thread_id(thread->id);
    entry->set_event(event);
    entry->set_samples(sum.samples);
    entry->set_weight(sum.weight);
  }
}

}  // namespace lbrd::daemon
