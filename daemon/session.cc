#include "daemon/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/history_recorder.h"
#include "daemon/private_feed.h"
#include "daemon/proto_encoder.h"

namespace lbrd::daemon {
namespace {

void SetCount(const std::string& name, uint64_t value,
              google::protobuf::RepeatedPtrField<v1::Count>* out) {
  if (value == 0) return;
  v1::Count* count = out->Add();
  count->set_name(name);
  count->set_value(value);
}

void SetDuration(absl::Duration duration, google::protobuf::Duration* out) {
  out->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

}  // namespace

Session::Session(std::string name, v1::SessionSpec spec, std::unique_ptr<SessionFeed> feed,
                 uint32_t owner_uid)
    : name_(std::move(name)),
      spec_(std::move(spec)),
      owner_uid_(owner_uid),
      create_time_(absl::Now()),
      feed_(std::move(feed)),
      patient_(feed_->patient()) {}

Session::Session(std::string name, v1::SessionSpec spec, SessionSource source,
                 unwind::BinaryCache* machine_binaries, uint32_t owner_uid)
    : Session(std::move(name), spec,
              std::make_unique<PrivateFeed>(std::move(source), spec, machine_binaries), owner_uid) {
}

Session::~Session() {
  Stop();
  feed_.reset();
  if (recorder_ != nullptr) recorder_->End();
}

absl::Status Session::Start() {
  if (spec_.wait_for_stream()) return absl::OkStatus();
  return Begin();
}

absl::Status Session::Begin() {
  {
    absl::MutexLock lock(&mutex_);
    if (state_ != v1::SESSION_STATE_WAITING) return absl::OkStatus();
    state_ = v1::SESSION_STATE_RUNNING;
    begin_time_ = absl::Now();
  }
  const absl::Duration duration =
      spec_.has_duration()
          ? absl::Seconds(spec_.duration().seconds()) + absl::Nanoseconds(spec_.duration().nanos())
          : absl::InfiniteDuration();
  // First, so that it knows of the first sample.
  if (recorder_ != nullptr) {
    recorder_->Begin([this] {
      const FeedStats stats = feed_->stats();
      return stats.source.lost_samples + stats.dropped_queue_full + stats.undecodable_samples;
    });
  }
  absl::Status begun =
      feed_->Begin(duration, this, [this](const absl::Status& status) { Ended(status); });
  if (!begun.ok()) {
    Ended(begun);
  } else {
    on_change_();
  }
  return begun;
}

void Session::Ended(const absl::Status& status) {
  // Its last samples have been delivered. Before anybody is told that it has ended.
  if (recorder_ != nullptr) recorder_->End();
  std::vector<std::shared_ptr<SampleStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    end_time_ = absl::Now();
    state_ = status.ok() ? v1::SESSION_STATE_STOPPED : v1::SESSION_STATE_FAILED;
    error_ = std::string(status.message());
    streams = streams_;
  }
  for (const auto& stream : streams) stream->End();
  on_ended_(status);
  on_change_();
}

void Session::AddWatcher() {
  absl::MutexLock lock(&mutex_);
  ++watchers_;
}

void Session::RemoveWatcher() {
  absl::MutexLock lock(&mutex_);
  --watchers_;
}

void Session::StopIfUnheld() {
  if (!bound()) return;
  {
    absl::MutexLock lock(&mutex_);
    if (!streams_.empty() || watchers_ != 0) return;
  }
  Stop();
}

void Session::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    if (state_ == v1::SESSION_STATE_WAITING) {
      state_ = v1::SESSION_STATE_STOPPED;
      begin_time_ = end_time_ = absl::Now();
      for (const auto& stream : streams_) stream->End();
      return;
    }
  }
  feed_->RequestStop();
  absl::MutexLock lock(&mutex_);
  // A patient source's workers wait for their streams' readers, who may never come.
  if (patient_) {
    for (const auto& stream : streams_) stream->Cancel();
  }
  const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return state_ != v1::SESSION_STATE_RUNNING;
  };
  mutex_.Await(absl::Condition(&over));
}

bool Session::ended() const {
  absl::MutexLock lock(&mutex_);
  return state_ == v1::SESSION_STATE_STOPPED || state_ == v1::SESSION_STATE_FAILED;
}

uint64_t Session::samples() const {
  absl::MutexLock lock(&mutex_);
  return profile_.samples();
}

v1::SessionState Session::state() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

absl::StatusOr<std::shared_ptr<SampleStream>> Session::AddStream() {
  auto stream = std::make_shared<SampleStream>(patient_);
  {
    absl::MutexLock lock(&mutex_);
    if (state_ == v1::SESSION_STATE_STOPPED || state_ == v1::SESSION_STATE_FAILED) {
      return absl::FailedPreconditionError(
          absl::StrCat("session '", name_, "' is over; its profile can still be had"));
    }
    streams_.push_back(stream);
  }
  if (absl::Status begun = Begin(); !begun.ok()) return begun;
  return stream;
}

void Session::RemoveStream(const std::shared_ptr<SampleStream>& stream) {
  stream->Cancel();
  absl::MutexLock lock(&mutex_);
  streams_.erase(std::remove(streams_.begin(), streams_.end(), stream), streams_.end());
}

void Session::Deliver(std::span<const Sample> samples) {
  std::vector<std::shared_ptr<SampleStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    for (const Sample& sample : samples) {
      if (spec_.continuous()) {
        profile_.Count(sample);
      } else if (!profile_.Add(sample)) {
        ++dropped_profile_full_;
      }
    }
    streams = streams_;
  }
  if (recorder_ != nullptr) recorder_->Deliver(samples);
  for (const auto& stream : streams) stream->Push(samples);
}

void Session::DescribeStats(v1::SessionStats* out) const {
  const FeedStats stats = feed_->stats();
  out->set_samples_seen(stats.source.samples);
  out->set_samples_lost(stats.source.lost_samples);
  out->set_samples_generated(stats.source.samples + stats.source.lost_samples);
  out->set_samples_delivered(profile_.samples());
  SetCount("worker_queue_full", stats.dropped_queue_full, out->mutable_samples_dropped());
  SetCount("undecodable", stats.undecodable_samples, out->mutable_samples_dropped());
  SetCount("profile_full", dropped_profile_full_, out->mutable_samples_dropped());
  SetCount("duplicate", stats.source.duplicates, out->mutable_samples_dropped());
  SetCount("other_user", stats.source.other_users, out->mutable_samples_dropped());
  out->set_flow_samples(stats.flow_samples);
  out->set_side_band_lost(stats.source.lost_other + stats.side_band_dropped +
                          stats.source.undecodable);
  out->set_late_records(stats.source.late_records);
  out->set_throttled(stats.source.throttled);
  out->set_event_count(stats.source.kernel_count);
  out->set_time_enabled_ns(stats.source.time_enabled_ns);
  out->set_time_running_ns(stats.source.time_running_ns);
  out->set_gap_count(stats.source.gap_count);
  out->set_gap_ns(stats.source.gap_ns);
  for (const pmu::CpuGap& gap : stats.source.gaps) {
    v1::Gap* told = out->add_gaps();
    told->set_cpu(gap.cpu);
    told->set_from_ns(gap.from_ns);
    told->set_to_ns(gap.to_ns);
  }
  for (int state = 0; state < static_cast<int>(unwind::kStackStates); ++state) {
    for (int reason = 0; reason < 32; ++reason) {
      const auto state_enum = static_cast<unwind::StackState>(state);
      const auto reason_enum = static_cast<unwind::StackReason>(reason);
      const absl::string_view word = unwind::StackReasonName(reason_enum);
      SetCount(absl::StrCat(unwind::StackStateName(state_enum), word.empty() ? "" : ": ", word),
               profile_.by_verdict(state_enum, reason_enum), out->mutable_stacks_by_verdict());
    }
  }
  for (int source = 0; source < 16; ++source) {
    const auto source_enum = static_cast<unwind::FrameSource>(source);
    SetCount(std::string(unwind::FrameSourceName(source_enum)), profile_.by_source(source_enum),
             out->mutable_stacks_by_source());
  }
  for (size_t i = 0; i < unwind::kWindowFindings; ++i) {
    SetCount(std::string(unwind::WindowFindingName(static_cast<unwind::WindowFinding>(i))),
             stats.lbr_windows[i], out->mutable_lbr_windows());
  }
  out->set_user_samples(profile_.user_samples());
  out->set_user_samples_complete(profile_.user_samples_complete());
  SetCount("thinned", stats.thinned, out->mutable_samples_left_out());
  SetCount("other_cpu", stats.other_cpu, out->mutable_samples_left_out());
  SetCount("other_thread", stats.other_thread, out->mutable_samples_left_out());
  SetCount("other_process", stats.other_process, out->mutable_samples_left_out());
  SetCount("other_comm", stats.other_comm, out->mutable_samples_left_out());
}

void Session::Describe(v1::Session* out) const {
  absl::MutexLock lock(&mutex_);
  out->set_name(name_);
  out->set_owner_uid(owner_uid_);
  *out->mutable_spec() = spec_;
  out->set_state(state_);
  out->set_error(error_);
  feed_->Describe(out);
  DescribeStats(out->mutable_stats());
  const absl::Duration since_epoch = create_time_ - absl::UnixEpoch();
  out->mutable_create_time()->set_seconds(absl::ToInt64Seconds(since_epoch));
  out->mutable_create_time()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(since_epoch) % 1'000'000'000));
  absl::Duration running = absl::ZeroDuration();
  if (state_ == v1::SESSION_STATE_RUNNING) running = absl::Now() - begin_time_;
  if (state_ == v1::SESSION_STATE_STOPPED || state_ == v1::SESSION_STATE_FAILED) {
    running = end_time_ - begin_time_;
  }
  if (spec_.target().has_recording()) {
    running = absl::Nanoseconds(profile_.last_time_ns() - profile_.first_time_ns());
  }
  SetDuration(running, out->mutable_running_time());
  for (const std::string& note : notes_) out->add_notes(note);
  if (spec_.continuous()) {
    out->add_notes(absl::StrCat("its samples are in the history: lbrctl query --session ", name_));
  }
}

void Session::EncodeProfileTo(DefinitionEncoder* definitions, v1::Profile* out) const {
  absl::MutexLock lock(&mutex_);
  EncodeProfile(profile_, definitions, out);
}

}  // namespace lbrd::daemon
