#include "daemon/session.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/history_recorder.h"
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

// A recording is read in order by one worker, so that the same file always gives the same output. A
// machine's samples are spread: one worker resolves what some sixteen CPUs produce at 1 kHz.
size_t WorkersFor(bool recording, uint32_t cpus) {
  if (recording) return 1;
  return std::clamp<size_t>((cpus + 15) / 16, 1, std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

Session::Session(std::string name, v1::SessionSpec spec, SessionSource source,
                 unwind::BinaryCache* machine_binaries)
    : name_(std::move(name)),
      spec_(std::move(spec)),
      create_time_(absl::Now()),
      source_(std::move(source)) {
  if (source_.files != nullptr) {
    own_binaries_ = std::make_unique<unwind::BinaryCache>(source_.files.get());
  }
  patient_ = source_.records->patient();
  PipelineOptions options;
  options.workers = WorkersFor(spec_.target().has_recording(), source_.cpus);
  options.tasks = source_.tasks.get();
  pipeline_ = std::make_unique<Pipeline>(
      std::move(source_.records), source_.events,
      own_binaries_ != nullptr ? own_binaries_.get() : machine_binaries,
      source_.kernel_names.symbols.get(), source_.kernel_names.missing, this, options);
}

Session::~Session() {
  Stop();
  pipeline_->Join();
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
    if (spec_.has_duration()) {
      pipeline_->set_deadline(begin_time_ + absl::Seconds(spec_.duration().seconds()) +
                              absl::Nanoseconds(spec_.duration().nanos()));
    }
  }
  pmu::RecordWriter known;
  if (absl::Status begun = source_.begin(&known); !begun.ok()) {
    Ended(begun);
    return begun;
  }
  if (recorder_ != nullptr) {
    recorder_->Begin([this] {
      const PipelineStats stats = pipeline_->stats();
      return stats.source.lost_samples + stats.dropped_queue_full + stats.undecodable_samples;
    });
  }
  pipeline_->Start(std::move(known), [this](const absl::Status& status) { Ended(status); });
  return absl::OkStatus();
}

void Session::Ended(const absl::Status& status) {
  // No worker runs any more. Before anybody is told that it has ended.
  if (source_.tasks != nullptr) source_.tasks->End();
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
  pipeline_->RequestStop();
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
  const PipelineStats stats = pipeline_->stats();
  out->set_samples_seen(stats.source.samples);
  out->set_samples_lost(stats.source.lost_samples);
  out->set_samples_generated(stats.source.samples + stats.source.lost_samples);
  out->set_samples_delivered(profile_.samples());
  SetCount("worker_queue_full", stats.dropped_queue_full, out->mutable_samples_dropped());
  SetCount("undecodable", stats.undecodable_samples, out->mutable_samples_dropped());
  SetCount("profile_full", dropped_profile_full_, out->mutable_samples_dropped());
  SetCount("duplicate", stats.source.duplicates, out->mutable_samples_dropped());
  SetCount("other_user", stats.source.other_users, out->mutable_samples_dropped());
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
  for (int state = 0; state < 3; ++state) {
    for (int reason = 0; reason < 32; ++reason) {
      const auto state_enum = static_cast<unwind::StackState>(state);
      const auto reason_enum = static_cast<unwind::StackReason>(reason);
      const absl::string_view word = unwind::StackReasonName(reason_enum);
      SetCount(absl::StrCat(unwind::StackStateName(state_enum), word.empty() ? "" : ": ", word),
               profile_.by_verdict(state_enum, reason_enum), out->mutable_stacks_by_verdict());
    }
  }
  for (int source = 0; source < 8; ++source) {
    const auto source_enum = static_cast<unwind::FrameSource>(source);
    SetCount(std::string(unwind::FrameSourceName(source_enum)), profile_.by_source(source_enum),
             out->mutable_stacks_by_source());
  }
  out->set_user_samples(profile_.user_samples());
  out->set_user_samples_complete(profile_.user_samples_complete());
  if (source_.progress) {
    const auto [read, total] = source_.progress();
    out->set_bytes_read(read);
    out->set_bytes_total(total);
  }
}

void Session::Describe(v1::Session* out) const {
  absl::MutexLock lock(&mutex_);
  out->set_name(name_);
  *out->mutable_spec() = spec_;
  out->set_state(state_);
  out->set_error(error_);
  for (const v1::SessionEvent& event : source_.described) *out->add_events() = event;
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
  for (const std::string& note : source_.notes) out->add_notes(note);
  for (const std::string& note : pipeline_->source().notes()) out->add_notes(note);
  if (spec_.continuous()) {
    out->add_notes(absl::StrCat("its samples are in the history: lbrctl query --session ", name_));
  }
  out->set_cpus(source_.cpus);
}

void Session::EncodeProfileTo(v1::Profile* out) const {
  absl::MutexLock lock(&mutex_);
  EncodeProfile(profile_, out);
}

}  // namespace lbrd::daemon
