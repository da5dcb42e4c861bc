// A RecordSource that plays a script: records one by one, pauses, and calls into the test in
// between.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "../pmu/wire_records.h"
#include "absl/synchronization/mutex.h"
#include "pmu/record_source.h"
#include "pmu/split_sample.h"

namespace lbrd::daemon {

class ScriptedSource : public pmu::RecordSource {
 public:
  explicit ScriptedSource(bool patient) : patient_(patient) {
    pmu::SourceEvent event;
    event.name = "scripted";
    event.format = pmu::WireSampleFormat();
    events_.push_back(event);
  }

  // The script; before the source is read.
  void Add(pmu::Words record) { script_.emplace_back(std::move(record)); }
  void AddPause() { script_.emplace_back(Pause{}); }
  // Called by the reader, after a pause, so that all that was read is on its way.
  void AddCall(std::function<void()> call) {
    AddPause();
    script_.emplace_back(std::move(call));
  }
  void AddError(absl::Status error) { script_.emplace_back(std::move(error)); }
  // Says kIdle at the script's end until it is finished, as a running machine does.
  void RunOn() { runs_on_ = true; }

  const std::vector<pmu::SourceEvent>& events() const override { return events_; }
  bool patient() const override { return patient_; }

  // Keeps the large records that it is asked to keep, until they are let go: then what they were is
  // overwritten.
  void KeepRecords() { keeps_ = true; }
  // Hands samples of that format out apart from their stacks.
  void SplitSamples(const pmu::RecordFormat& format) { split_ = format; }
  std::optional<pmu::KeptRecord> Keep() override {
    if (!keeps_) return std::nullopt;
    kept_.push_back(std::move(current_));
    kept_stacks_.push_back(std::move(stack_));
    return pmu::KeptRecord{.place = static_cast<uint32_t>(kept_.size() - 1)};
  }
  void LetGo(const pmu::KeptRecord& kept) override {
    std::fill(kept_.at(kept.place).begin(), kept_.at(kept.place).end(), UINT64_MAX);
    std::fill(kept_stacks_.at(kept.place).begin(), kept_stacks_.at(kept.place).end(), UINT64_MAX);
    ++let_go_;
  }
  size_t kept() const { return kept_.size(); }
  size_t let_go() const { return let_go_; }

  absl::StatusOr<pmu::ReadResult> Next(pmu::RawRecord* out) override {
    while (true) {
      if (at_ == script_.size()) {
        return runs_on_ && !finished_ ? pmu::ReadResult::kIdle : pmu::ReadResult::kEnd;
      }
      Step& step = script_[at_++];
      if (std::holds_alternative<Pause>(step)) {
        if (finished_) continue;
        return pmu::ReadResult::kIdle;
      }
      if (const auto* call = std::get_if<std::function<void()>>(&step)) {
        (*call)();
        continue;
      }
      if (const auto* error = std::get_if<absl::Status>(&step)) return *error;
      // A place of its own, overwritten by the next record: who keeps a pointer to it, is found
      // out.
      current_ = std::get<pmu::Words>(step);
      stack_.clear();
      out->stack = split_.has_value() ? SplitCurrent() : pmu::StackCopy{};
      out->header = pmu::HeaderOf(current_);
      out->event = 0;
      const auto who = pmu::PeekRecord(out->header, events_[0].format);
      out->who = who.value_or(pmu::SampleId{});
      absl::MutexLock lock(&mutex_);
      ++(out->header->type == PERF_RECORD_SAMPLE ? stats_.samples : stats_.other_records);
      return pmu::ReadResult::kRecord;
    }
  }

  void Wait(absl::Duration timeout) override {
    absl::MutexLock lock(&mutex_);
    // Pauses of the script are over at once; only at its end there is something to wait for.
    if (at_ < script_.size()) return;
    mutex_.AwaitWithTimeout(absl::Condition(&interrupted_), timeout);
    interrupted_ = false;
  }
  void Interrupt() override {
    absl::MutexLock lock(&mutex_);
    interrupted_ = true;
  }
  void Finish() override { finished_ = true; }
  bool finished() const { return finished_; }

  pmu::SourceStats stats() const override {
    absl::MutexLock lock(&mutex_);
    return stats_;
  }

 private:
  // The stack moves to one place, the rest of the sample to another.
  pmu::StackCopy SplitCurrent() {
    pmu::Words less(current_.size());
    const auto fields = std::as_bytes(std::span(current_)).subspan(sizeof(perf_event_header));
    const auto split = pmu::Split(*pmu::HeaderOf(current_), fields, *split_,
                                  reinterpret_cast<std::byte*>(less.data()));
    if (!split.has_value()) return {};
    stack_.resize((split->stack.bytes + 7) / 8);
    std::memcpy(stack_.data(), split->stack.begin, split->stack.bytes);
    less.resize(split->record_bytes / 8);
    current_ = std::move(less);
    pmu::StackCopy moved = split->stack;
    moved.begin = reinterpret_cast<const std::byte*>(stack_.data());
    return moved;
  }

  struct Pause {};
  using Step = std::variant<pmu::Words, Pause, std::function<void()>, absl::Status>;

  const bool patient_;
  std::vector<pmu::SourceEvent> events_;
  std::vector<Step> script_;
  size_t at_ = 0;
  pmu::Words current_;
  pmu::Words stack_;  // of the current one, if it was split
  std::optional<pmu::RecordFormat> split_;
  bool keeps_ = false;
  std::deque<pmu::Words> kept_;
  std::deque<pmu::Words> kept_stacks_;
  size_t let_go_ = 0;
  bool runs_on_ = false;
  bool finished_ = false;

  mutable absl::Mutex mutex_;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  pmu::SourceStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
