#include "daemon/session.h"

#include <time.h>

#include <algorithm>
#include <iterator>
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

// The clock of the records.
uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool HasEnded(v1::SessionState state) {
  return state == v1::SESSION_STATE_STOPPED || state == v1::SESSION_STATE_FAILED;
}

constexpr size_t kMaxGaps = 64;  // that are told one by one
// Of them, in the journal.
constexpr size_t kMaxKeptGaps = 16;

size_t ProfileBytes(const v1::SessionSpec& spec) {
  return spec.profile_bytes() == 0 ? ProfileTable::kMaxBytes : spec.profile_bytes();
}

// What somebody else has written may be any time.
absl::Time PastTime(int64_t unix_ns) {
  return std::clamp(absl::FromUnixNanos(unix_ns), absl::UnixEpoch(), absl::Now());
}

}  // namespace

Session::Session(std::string name, v1::SessionSpec spec, std::unique_ptr<SessionFeed> feed,
                 uint32_t owner_uid)
    : name_(std::move(name)),
      spec_(std::move(spec)),
      owner_uid_(owner_uid),
      create_time_(absl::Now()),
      feed_(std::move(feed)),
      patient_(feed_->patient()),
      // A recording ends, and so does the process that reads it.
      profile_(ProfileTable::kMaxEntries, patient_ ? SIZE_MAX : ProfileBytes(spec_)) {}

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

void Session::set_memory_share(MemoryShare share) {
  absl::MutexLock lock(&mutex_);
  memory_share_ = share;
  profile_.set_share(share);
}

void Session::AddNotes(std::vector<std::string> notes) {
  absl::MutexLock lock(&mutex_);
  notes_.insert(notes_.end(), std::make_move_iterator(notes.begin()),
                std::make_move_iterator(notes.end()));
}

void Session::GoOn(const EarlierLife& earlier) {
  create_time_ = PastTime(earlier.record.create_unix_ns());
  request_id_ = earlier.record.request_id();
  {
    absl::MutexLock lock(&mutex_);
    const v1::SessionState state = earlier.record.state();
    begin_time_ = PastTime(earlier.record.begin_unix_ns());
    end_time_ = PastTime(earlier.record.end_unix_ns());
    for (const v1::Gap& gap : earlier.record.gaps()) {
      if (earlier_gaps_.size() < kMaxKeptGaps) earlier_gaps_.push_back(gap);
    }
    // Nothing was sampled, so nothing is lost.
    if (state == v1::SESSION_STATE_WAITING) return;
    earlier_ = earlier.figures;
    earlier_.EndWithEngine();
    if (!earlier.had_ended) ++earlier_.engine_deaths;
    uint64_t from_ns = earlier_.time_ns;
    if (from_ns == 0) {
      const auto ago = static_cast<uint64_t>(absl::ToInt64Nanoseconds(absl::Now() - begin_time_));
      from_ns = MonotonicNs() - std::min(MonotonicNs(), ago);
    }
    if (!earlier_gaps_.empty()) from_ns = std::max(from_ns, earlier_gaps_.back().to_ns());
    if (state == v1::SESSION_STATE_RUNNING) {
      // The sums have them all.
      if (earlier_gaps_.size() == kMaxKeptGaps) earlier_gaps_.erase(earlier_gaps_.begin());
      v1::Gap gap;
      gap.set_cpu(-1);
      gap.set_from_ns(std::min(from_ns, MonotonicNs()));
      gap.set_why(earlier.why);
      earlier_gaps_.push_back(std::move(gap));
      ++earlier_.gap_count;
      begin_at_once_ = true;
      // The journal stays as it is until it samples again: this engine may die before.
      return;
    }
    state_ =
        state == v1::SESSION_STATE_STOPPED ? v1::SESSION_STATE_STOPPED : v1::SESSION_STATE_FAILED;
    error_ = earlier.record.error();
  }
  KeepState();
  KeepFigures();
}

void Session::EndEarlierGap() {
  if (earlier_gaps_.empty() || earlier_gaps_.back().to_ns() != 0) return;
  v1::Gap& gap = earlier_gaps_.back();
  gap.set_to_ns(std::max(MonotonicNs(), gap.from_ns()));
  earlier_.gap_ns += gap.to_ns() - gap.from_ns();
}

void Session::KeepState() {
  if (entry_ == nullptr) return;
  v1::Session described;
  feed_->Describe(&described);
  const bool kept = entry_->Update([&](journal::SessionRecord* record) {
    absl::MutexLock lock(&mutex_);
    // Another thread has ended it meanwhile.
    if (HasEnded(record->state())) return;
    record->set_state(state_);
    record->set_error(error_);
    record->set_begin_unix_ns(absl::ToUnixNanos(begin_time_));
    record->set_end_unix_ns(absl::ToUnixNanos(end_time_));
    if (described.events_size() != 0) {
      *record->mutable_events() = described.events();
      for (v1::SessionEvent& event : *record->mutable_events()) event.clear_attr();
    }
    record->clear_gaps();
    for (const v1::Gap& gap : earlier_gaps_) *record->add_gaps() = gap;
  });
  if (kept) return;
  absl::MutexLock lock(&mutex_);
  notes_.emplace_back(
      "it would not survive the daemon's engine: its request is too long to be kept");
}

void Session::KeepEnd(const absl::Status& status) {
  if (entry_ == nullptr) return;
  KeepFigures();
  entry_->Update([&](journal::SessionRecord* record) {
    record->set_state(status.ok() ? v1::SESSION_STATE_STOPPED : v1::SESSION_STATE_FAILED);
    record->set_error(std::string(status.message()));
    record->set_end_unix_ns(absl::GetCurrentTimeNanos());
  });
}

void Session::KeepFigures() {
  if (entry_ == nullptr) return;
  entry_->WriteFigures([this] {
    // Before its figures, so that they are of that moment or younger.
    const uint64_t now_ns = MonotonicNs();
    absl::MutexLock lock(&mutex_);
    // A gap that lasts begins where the figures of the engine before ended.
    const bool gap = !earlier_gaps_.empty() && earlier_gaps_.back().to_ns() == 0;
    SessionFigures figures = Figures(feed_->stats());
    if (state_ != v1::SESSION_STATE_RUNNING || gap) return figures;
    // What lies in the rings, a round of it at most, is in none of them.
    const absl::Duration unread =
        std::clamp(absl::Now() - begin_time_, absl::ZeroDuration(), kLongRound);
    figures.time_ns = now_ns - static_cast<uint64_t>(absl::ToInt64Nanoseconds(unread));
    return figures;
  });
}

void Session::Forget() {
  if (entry_ != nullptr) entry_->Erase();
}

absl::Status Session::Start() {
  if (spec_.wait_for_stream() && !begin_at_once_) return absl::OkStatus();
  return Begin();
}

absl::Status Session::Begin() {
  absl::Duration duration = spec_.has_duration() ? absl::Seconds(spec_.duration().seconds()) +
                                                       absl::Nanoseconds(spec_.duration().nanos())
                                                 : absl::InfiniteDuration();
  {
    absl::MutexLock lock(&mutex_);
    if (state_ != v1::SESSION_STATE_WAITING) return absl::OkStatus();
    state_ = v1::SESSION_STATE_RUNNING;
    if (begin_at_once_) {
      duration = std::max(begin_time_ + duration - absl::Now(), absl::ZeroDuration());
    } else {
      begin_time_ = absl::Now();
    }
  }
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
    return begun;
  }
  {
    absl::MutexLock lock(&mutex_);
    begun_ = true;
    EndEarlierGap();
  }
  // In this order: an engine that dies in between leaves a gap that is counted and not listed.
  KeepFigures();
  KeepState();
  on_change_();
  return begun;
}

void Session::Ended(const absl::Status& status) {
  // Its last samples have been delivered. Before anybody is told that it has ended.
  if (recorder_ != nullptr) recorder_->End();
  // The same of the journal; from then on the session may go at any time.
  KeepEnd(status);
  std::vector<std::shared_ptr<SampleStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    end_time_ = absl::Now();
    state_ = status.ok() ? v1::SESSION_STATE_STOPPED : v1::SESSION_STATE_FAILED;
    error_ = std::string(status.message());
    streams = streams_;
    telling_ = true;
  }
  for (const auto& stream : streams) stream->End();
  on_ended_(status);
  on_change_();
  absl::MutexLock lock(&mutex_);
  telling_ = false;
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
  bool never_begun = false;
  {
    absl::MutexLock lock(&mutex_);
    if (state_ == v1::SESSION_STATE_WAITING) {
      state_ = v1::SESSION_STATE_STOPPED;
      begin_time_ = end_time_ = absl::Now();
      for (const auto& stream : streams_) stream->End();
      never_begun = true;
    }
  }
  if (never_begun) {
    KeepState();
    return;
  }
  feed_->RequestStop();
  absl::MutexLock lock(&mutex_);
  // A patient source's workers wait for their streams' readers, who may never come.
  if (patient_) {
    for (const auto& stream : streams_) stream->Cancel();
  }
  const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return state_ != v1::SESSION_STATE_RUNNING && !telling_;
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
  return ShownState();
}

v1::SessionState Session::ShownState() const {
  return state_ == v1::SESSION_STATE_RUNNING && !begun_ ? v1::SESSION_STATE_WAITING : state_;
}

absl::StatusOr<std::shared_ptr<SampleStream>> Session::AddStream() {
  auto stream = std::make_shared<SampleStream>(patient_, memory_share_);
  {
    absl::MutexLock lock(&mutex_);
    if (state_ == v1::SESSION_STATE_STOPPED || state_ == v1::SESSION_STATE_FAILED) {
      return absl::FailedPreconditionError(
          absl::StrCat("session '", name_, "' is over; its profile can still be had"));
    }
    streams_.push_back(stream);
    streaming_.store(true, std::memory_order_relaxed);
  }
  if (absl::Status begun = Begin(); !begun.ok()) return begun;
  return stream;
}

void Session::RemoveStream(const std::shared_ptr<SampleStream>& stream) {
  stream->Cancel();
  absl::MutexLock lock(&mutex_);
  streams_.erase(std::remove(streams_.begin(), streams_.end(), stream), streams_.end());
  streaming_.store(!streams_.empty(), std::memory_order_relaxed);
}

void Session::Deliver(std::span<const Sample> samples) {
  std::vector<std::shared_ptr<SampleStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    if (spec_.continuous()) {
      for (const Sample& sample : samples) profile_.Count(sample);
    } else {
      dropped_profile_full_ += profile_.Add(samples);
    }
    streams = streams_;
  }
  if (recorder_ != nullptr) recorder_->Deliver(samples);
  for (const auto& stream : streams) stream->Push(samples);
}

void Session::DeliverPicked(std::span<const Sample> samples, std::span<const PickedSample> picked) {
  if (recorder_ == nullptr && !spec_.continuous()) {
    absl::MutexLock lock(&mutex_);
    if (streams_.empty()) {
      dropped_profile_full_ += profile_.AddPicked(samples, picked);
      return;
    }
  }
  SampleSink::DeliverPicked(samples, picked);
}

SessionFigures Session::Figures(const FeedStats& stats) const {
  SessionFigures figures{.seen = stats.source.samples,
                         .lost = stats.source.lost_samples,
                         .queue_full = stats.dropped_queue_full,
                         .undecodable = stats.undecodable_samples,
                         .profile_full = dropped_profile_full_,
                         .duplicates = stats.source.duplicates,
                         .other_users = stats.source.other_users,
                         .flow_samples = stats.flow_samples,
                         .thinned = stats.thinned,
                         .other_cpu = stats.other_cpu,
                         .other_thread = stats.other_thread,
                         .other_process = stats.other_process,
                         .other_comm = stats.other_comm,
                         .side_band_lost = stats.source.lost_other + stats.side_band_dropped +
                                           stats.source.undecodable,
                         .late_records = stats.source.late_records,
                         .throttled = stats.source.throttled,
                         .event_count = stats.source.kernel_count,
                         .time_enabled_ns = stats.source.time_enabled_ns,
                         .time_running_ns = stats.source.time_running_ns,
                         .gap_count = stats.source.gap_count,
                         .gap_ns = stats.source.gap_ns};
  figures += earlier_;
  return figures;
}

void Session::DescribeStats(v1::SessionStats* out) const {
  const FeedStats stats = feed_->stats();
  const SessionFigures figures = Figures(stats);
  out->set_samples_seen(figures.seen);
  out->set_samples_lost(figures.lost);
  out->set_samples_generated(figures.seen + figures.lost);
  out->set_samples_delivered(profile_.samples());
  SetCount("worker_queue_full", figures.queue_full, out->mutable_samples_dropped());
  SetCount("undecodable", figures.undecodable, out->mutable_samples_dropped());
  SetCount("profile_full", figures.profile_full, out->mutable_samples_dropped());
  SetCount("duplicate", figures.duplicates, out->mutable_samples_dropped());
  SetCount("other_user", figures.other_users, out->mutable_samples_dropped());
  SetCount("engine_died", figures.engine_died, out->mutable_samples_dropped());
  out->set_flow_samples(figures.flow_samples);
  out->set_side_band_lost(figures.side_band_lost);
  out->set_late_records(figures.late_records);
  out->set_throttled(figures.throttled);
  out->set_event_count(figures.event_count);
  out->set_time_enabled_ns(figures.time_enabled_ns);
  out->set_time_running_ns(figures.time_running_ns);
  out->set_engine_deaths(static_cast<uint32_t>(figures.engine_deaths));
  out->set_gap_count(figures.gap_count);
  out->set_gap_ns(figures.gap_ns);
  for (const v1::Gap& gap : earlier_gaps_) *out->add_gaps() = gap;
  for (const pmu::CpuGap& gap : stats.source.gaps) {
    if (static_cast<size_t>(out->gaps_size()) == kMaxGaps) break;
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
  SetCount("thinned", figures.thinned, out->mutable_samples_left_out());
  SetCount("other_cpu", figures.other_cpu, out->mutable_samples_left_out());
  SetCount("other_thread", figures.other_thread, out->mutable_samples_left_out());
  SetCount("other_process", figures.other_process, out->mutable_samples_left_out());
  SetCount("other_comm", figures.other_comm, out->mutable_samples_left_out());
}

void Session::Describe(v1::Session* out) const {
  absl::MutexLock lock(&mutex_);
  out->set_name(name_);
  out->set_owner_uid(owner_uid_);
  *out->mutable_spec() = spec_;
  out->set_state(ShownState());
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
  if (earlier_.engine_died != 0 && recorder_ == nullptr) {
    out->add_notes(absl::StrCat(
        "the profile begins anew after the daemon's engine died: ", earlier_.engine_died,
        " samples of before (engine_died) are not in it"));
  }
  if (spec_.continuous()) {
    out->add_notes(absl::StrCat("its samples are in the history: lbrctl query --session ", name_));
  }
}

void Session::EncodeProfileTo(DefinitionEncoder* definitions, v1::Profile* out) const {
  std::vector<ProfileTable::Entry> entries;
  {
    // No longer than that: workers wait for it.
    absl::MutexLock lock(&mutex_);
    entries = profile_.CopyEntries();
  }
  EncodeProfile(entries, definitions, out);
}

}  // namespace lbrd::daemon
