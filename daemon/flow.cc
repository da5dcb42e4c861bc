#include "daemon/flow.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/private_feed.h"
#include "pmu/event_set.h"

namespace lbrd::daemon {
namespace {

// Changes of rate that are remembered: a sample is read at most some hundred milliseconds late.
constexpr size_t kRatesKept = 64;

}  // namespace

Flow::Flow(pmu::Kernel& kernel, FlowOptions options, SessionSource source,
           unwind::BinaryCache* binaries, std::function<void()> ended)
    : kernel_(kernel),
      options_(std::move(options)),
      ended_(std::move(ended)),
      source_(std::move(source)),
      events_(source_.live),
      clock_(!source_.described.empty() && source_.described[0].unit() == "ns"),
      users_(kernel, 0),
      rate_(options_.rate),
      cpus_(options_.cpus) {
  PipelineOptions how;
  how.workers = WorkersFor(/*recording=*/false, source_.cpus);
  how.tasks = source_.tasks.get();
  how.gate = this;
  pipeline_ = std::make_unique<Pipeline>(std::move(source_.records), source_.events, binaries,
                                         source_.kernel_names, nullptr, how);
}

Flow::~Flow() { Release(); }

std::unique_ptr<FlowShare> Flow::Join(const std::shared_ptr<Flow>& flow, FlowDemand demand,
                                      FilterSpec filter) {
  uint64_t id = 0;
  {
    absl::MutexLock lock(&flow->mutex_);
    if (flow->closed_ || flow->over_) return nullptr;
    ++flow->members_;
    id = flow->next_id_++;
  }
  return std::unique_ptr<FlowShare>(new FlowShare(flow, id, std::move(demand), std::move(filter)));
}

void Flow::Leave() {
  {
    absl::MutexLock lock(&mutex_);
    if (--members_ != 0 || begun_) return;
    closed_ = true;
  }
  ended_();  // it never began: there is no reader to say so
}

FlowPlace Flow::place() const {
  absl::MutexLock lock(&mutex_);
  return {options_.kind, cpus_, source_.grants.empty()};
}

void Flow::SlowDown(uint32_t factor) {
  if (slow_down_.exchange(factor) == factor) return;
  absl::ReaderMutexLock lock(&pipeline_mutex_);
  if (pipeline_ != nullptr) pipeline_->Wake();
}

bool Flow::EndIfIdle() {
  {
    absl::MutexLock lock(&mutex_);
    if (members_ != 0) return false;
    end_if_idle_ = true;
  }
  absl::ReaderMutexLock lock(&pipeline_mutex_);
  if (pipeline_ != nullptr) pipeline_->Wake();
  return true;
}

void Flow::Release() {
  std::unique_ptr<Pipeline> pipeline;
  {
    absl::MutexLock lock(&pipeline_mutex_);
    pipeline.swap(pipeline_);
  }
  pipeline.reset();
  source_.grants.clear();  // once the events are closed
}

absl::Status Flow::BeginOnce() {
  absl::MutexLock begin(&begin_mutex_);
  {
    absl::MutexLock lock(&mutex_);
    if (begun_) return absl::OkStatus();
  }
  pmu::RecordWriter known;
  if (absl::Status prepared = source_.prepare(&known); !prepared.ok()) return prepared;
  {
    absl::MutexLock lock(&mutex_);
    begun_ = true;
  }
  idle_since_ = kernel_.Now();
  pipeline_->Start(std::move(known), [this](const absl::Status& status) { PipelineEnded(status); });
  return absl::OkStatus();
}

absl::Status Flow::Start(FlowShare* share, absl::Duration duration) {
  if (absl::Status begun = BeginOnce(); !begun.ok()) return begun;
  absl::Status status;
  absl::Notification answered;
  Post({.kind = Command::kStart,
        .share_id = share->id_,
        .start = share,
        .duration = duration,
        .status = &status,
        .answered = &answered});
  answered.WaitForNotification();
  return status;
}

void Flow::Post(Command command) {
  {
    absl::MutexLock lock(&mutex_);
    if (!closed_) {
      commands_.push_back(command);
      command.answered = nullptr;
    }
  }
  if (command.answered != nullptr) {
    *command.status = absl::UnavailableError("the events have just been closed; try again");
    command.answered->Notify();
  }
  absl::ReaderMutexLock lock(&pipeline_mutex_);
  if (pipeline_ != nullptr) pipeline_->Wake();
}

pmu::SourceStats Flow::SourceNow() const {
  pmu::SourceStats stats;
  {
    absl::ReaderMutexLock lock(&pipeline_mutex_);
    if (pipeline_ == nullptr) return stats;
    stats = pipeline_->source().stats();
  }
  pmu::SourceStats of_rates;
  rate_gaps_.Describe(&of_rates);
  const auto append = [](auto& all, const auto& more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  append(stats.recent_gaps, of_rates.recent_gaps);
  append(stats.gaps_by_cpu, of_rates.gaps_by_cpu);
  return stats;
}

std::array<uint64_t, unwind::kWindowFindings> Flow::LbrWindows() const {
  absl::ReaderMutexLock lock(&pipeline_mutex_);
  return pipeline_ == nullptr ? decltype(PipelineStats::lbr_windows){}
                              : pipeline_->stats().lbr_windows;
}

std::vector<Progress> Flow::progress() const {
  absl::ReaderMutexLock lock(&pipeline_mutex_);
  return pipeline_ == nullptr ? std::vector<Progress>() : pipeline_->progress();
}

void Flow::DescribeTo(v1::Session* out) const {
  for (const v1::SessionEvent& event : source_.described) *out->add_events() = event;
  AddNotes(source_, out);
  out->set_cpus(source_.cpus);
  {
    absl::ReaderMutexLock lock(&pipeline_mutex_);
    if (pipeline_ != nullptr) {
      for (const std::string& note : pipeline_->source().notes()) out->add_notes(note);
    }
  }
  v1::FlowInfo* info = out->mutable_flow();
  info->set_name(options_.name);
  absl::MutexLock lock(&mutex_);
  info->set_sessions(static_cast<uint32_t>(members_));
  options_.kind.by_period ? info->set_period(rate_)
                          : info->set_frequency_hz(static_cast<uint32_t>(rate_));
  info->set_cpus(static_cast<uint32_t>(cpus_.empty() ? source_.cpus : cpus_.size()));
}

// What follows is the reader's.

void Flow::See(const pmu::RawRecord& record, std::vector<SampleShare>* shares) {
  if (const uint64_t gaps_ended = events_->gaps_ended(); gaps_ended != gaps_ended_) {
    gaps_ended_ = gaps_ended;
    for (auto& [uid, owned] : owned_) owned->filter.Lost();
  }
  if (record.header->type != PERF_RECORD_SAMPLE) {
    SeeTask(record);
    return;
  }
  const std::optional<uint32_t> uid =
      by_user_ != 0 ? users_.User(record.who.pid, record.who.time) : std::nullopt;
  const uint64_t rate = RateAt(record.who.time);
  for (FlowShare* share : active_) share->Take(record, uid, rate, shares);
  for (FlowShare* share : leaving_) share->Take(record, uid, rate, shares);
}

void Flow::SeeTask(const pmu::RawRecord& record) {
  const uint32_t type = record.header->type;
  const uint64_t time = record.who.time;
  if (type == PERF_RECORD_COMM && (record.header->misc & PERF_RECORD_MISC_COMM_EXEC) != 0) {
    users_.Executed(record.who.pid);
    for (auto& [uid, owned] : owned_) owned->filter.Executed(record.who.pid, time);
    return;
  }
  if (type == PERF_RECORD_LOST) {
    for (auto& [uid, owned] : owned_) owned->filter.Lost();
    return;
  }
  int32_t ids[4];  // pid, ppid, tid, ptid
  if ((type != PERF_RECORD_FORK && type != PERF_RECORD_EXIT) ||
      record.header->size < sizeof(*record.header) + sizeof(ids)) {
    return;
  }
  std::memcpy(ids, record.header + 1, sizeof(ids));
  const auto [pid, parent_pid, tid, parent_tid] = ids;
  if (type == PERF_RECORD_FORK) {
    if (by_user_ != 0) users_.Forked(pid, parent_pid);
    for (auto& [uid, owned] : owned_) owned->filter.Forked(pid, parent_pid, time);
    for (FlowShare* share : active_) share->filter_.Forked(pid, parent_pid);
    for (FlowShare* share : leaving_) share->filter_.Forked(pid, parent_pid);
    return;
  }
  if (pid == tid) {
    users_.Exited(pid);
    for (auto& [uid, owned] : owned_) owned->filter.Exited(pid, time);
  }
  for (FlowShare* share : active_) {
    share->gone_ = share->gone_ || share->filter_.spec().thread == tid;
  }
}

void Flow::Attend() {
  const uint64_t handed_out_before = events_->handed_out_before();
  if (const uint32_t factor = slow_down_; factor != slowed_down_) {
    slowed_down_ = factor;
    // Refused a faster rate it stays slow, and the weights say so.
    if (!active_.empty()) SetRate(RateWithout(nullptr)).IgnoreError();
  }
  RunCommands();
  EndThoseDue(kernel_.Now());
  for (size_t i = 0; i < leaving_.size();) {
    FlowShare* share = leaving_[i];
    if (handed_out_before < share->end_ns_) {
      ++i;
      continue;
    }
    // Who is the last, and nobody lingers: it ends with the flow, when all was given back.
    if (EndsWithLast()) return;
    NeedNoMore(share);
    leaving_.erase(leaving_.begin() + static_cast<ptrdiff_t>(i));
    // From a worker's thread. Nobody is told before the last of its samples was delivered.
    pipeline_->SendOff(share, [share] { share->Finish(absl::OkStatus()); });
  }
  if (!active_.empty() || !leaving_.empty()) return;
  const uint64_t idle_ns = kernel_.Now() - idle_since_;
  absl::MutexLock lock(&mutex_);
  const bool long_enough =
      end_if_idle_ || idle_ns >= static_cast<uint64_t>(absl::ToInt64Nanoseconds(options_.linger));
  if (members_ == 0 && commands_.empty() && long_enough) over_ = true;
}

bool Flow::EndsWithLast() {
  absl::MutexLock lock(&mutex_);
  if (options_.linger > absl::ZeroDuration() || members_ != 1 || !commands_.empty()) return false;
  over_ = true;
  return true;
}

absl::Duration Flow::MaxWait() const {
  if (!leaving_.empty() || !widening_.empty()) return absl::Milliseconds(1);
  absl::Duration longest = kLongRound;
  uint64_t next = UINT64_MAX;
  for (const FlowShare* share : active_) {
    if (share->Hurries()) longest = kShortRound;
    next = std::min(next, share->deadline_ns_);
  }
  const uint64_t now = kernel_.Now();
  const uint64_t left = next <= now ? 0 : next - now;
  return left >= static_cast<uint64_t>(absl::ToInt64Nanoseconds(longest))
             ? longest
             : absl::Nanoseconds(static_cast<int64_t>(left));
}

void Flow::RunCommands() {
  std::vector<Command> ready;
  if (events_->settled()) ready.swap(widening_);
  {
    absl::MutexLock lock(&mutex_);
    ready.insert(ready.end(), commands_.begin(), commands_.end());
    commands_.clear();
  }
  for (const Command& command : ready) Accept(command);
}

void Flow::Accept(const Command& command) {
  if (command.kind == Command::kStop) {
    const auto found =
        std::find_if(active_.begin(), active_.end(),
                     [&command](const FlowShare* one) { return one->id_ == command.share_id; });
    if (found != active_.end()) EndShare(*found);
    return;
  }
  CpuSet covered;
  {
    absl::MutexLock lock(&mutex_);
    covered = cpus_;
  }
  if (!Covers(covered, command.start->demand_.cpus)) {
    SetCpus(UnionOf(covered, command.start->demand_.cpus));
    widening_.push_back(command);  // taken up again when the new CPUs have events
    return;
  }
  *command.status = StartShare(command.start, command.duration);
  command.answered->Notify();
}

absl::Status Flow::StartShare(FlowShare* share, absl::Duration duration) {
  const uint64_t others = RateWithout(nullptr);
  const uint64_t rate = active_.empty() ? share->demand_.rate
                                        : FasterRate(options_.kind, others, share->demand_.rate);
  if (absl::Status set = SetRate(rate); !set.ok()) {
    if (!active_.empty()) SetRate(others).IgnoreError();
    return set;
  }
  // Counts first: what is lost from here on is this session's loss too.
  events_->Refresh();
  pmu::SourceStats begin = SourceNow();
  share->start_ns_ = kernel_.Now();
  share->end_ns_ = UINT64_MAX;
  if (duration < absl::Hours(24 * 365 * 100)) {
    share->deadline_ns_ =
        share->start_ns_ + static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration));
  }
  {
    absl::MutexLock lock(&share->mutex_);
    share->at_begin_ = std::move(begin);
    share->window_begin_ns_ = share->start_ns_;
  }
  if (!sampling_) {
    if (absl::Status started = events_->StartSampling(); !started.ok()) return started;
    sampling_ = true;
  }
  active_.push_back(share);
  Need(share);
  return absl::OkStatus();
}

void Flow::Need(FlowShare* share) {
  const FilterSpec& wants = share->filter_.spec();
  if (wants.uid.has_value()) ++by_user_;
  if (!wants.viewer.has_value()) return;
  std::unique_ptr<Owned>& owned = owned_[wants.viewer->uid];
  if (owned == nullptr) {
    owned = std::make_unique<Owned>(
        Owned{pmu::OwnerFilter(kernel_, wants.viewer->ownership_of), /*shares=*/0});
  }
  ++owned->shares;
  share->owned_ = &owned->filter;
}

void Flow::NeedNoMore(FlowShare* share) {
  const FilterSpec& wants = share->filter_.spec();
  if (wants.uid.has_value()) --by_user_;
  if (!wants.viewer.has_value()) return;
  const auto owned = owned_.find(wants.viewer->uid);
  if (--owned->second->shares == 0) owned_.erase(owned);
}

void Flow::EndShare(FlowShare* share) {
  active_.erase(std::find(active_.begin(), active_.end(), share));
  if (active_.empty()) {
    // Stopped first, so that the kernel's counts are those of the session's time.
    events_->PauseSampling();
    sampling_ = false;
    idle_since_ = kernel_.Now();
  }
  share->end_ns_ = kernel_.Now();
  events_->Refresh();
  pmu::SourceStats end = SourceNow();
  {
    absl::MutexLock lock(&share->mutex_);
    share->at_end_ = std::move(end);
    share->window_end_ns_ = share->end_ns_;
  }
  leaving_.push_back(share);
  if (active_.empty()) return;
  // A refusal of a slower rate is no harm: it is thinned.
  SetRate(RateWithout(share)).IgnoreError();
  CpuSet wanted = active_.front()->demand_.cpus;
  for (const FlowShare* one : active_) wanted = UnionOf(wanted, one->demand_.cpus);
  for (const Command& command : widening_) {
    wanted = UnionOf(wanted, command.start->demand_.cpus);
  }
  SetCpus(std::move(wanted));
}

void Flow::EndThoseDue(uint64_t now) {
  std::vector<FlowShare*> due;
  for (FlowShare* share : active_) {
    if (now >= share->deadline_ns_ || TargetGone(share)) due.push_back(share);
  }
  for (FlowShare* share : due) EndShare(share);
}

bool Flow::TargetGone(FlowShare* share) {
  if (share->gone_) return true;
  if (share->pid_fd_ < 0) return false;
  pollfd process{share->pid_fd_, POLLIN, 0};
  return kernel_.Poll(std::span(&process, 1), 0) > 0 && (process.revents & POLLIN) != 0;
}

uint64_t Flow::RateWithout(const FlowShare* share) const {
  uint64_t rate = 0;
  for (const FlowShare* one : active_) {
    if (one == share) continue;
    rate = rate == 0 ? one->demand_.rate : FasterRate(options_.kind, rate, one->demand_.rate);
  }
  return rate;
}

absl::Status Flow::SetRate(uint64_t wanted) {
  const uint64_t rate = SlowedRate(options_.kind, wanted, slowed_down_);
  uint64_t before = 0;
  {
    absl::MutexLock lock(&mutex_);
    before = rate_;
  }
  // Of events that rest, the count towards the next sample begins anew also at the same rate.
  if (sampling_ && rate == before) return absl::OkStatus();
  // Others say themselves what each sample stands for. Of these none may be taken while some CPUs
  // have the old rate and others the new: a gap of some microseconds, stated.
  const bool stop = sampling_ && FixedWeights();
  const uint64_t from = kernel_.Now();
  if (stop) events_->PauseSampling();
  absl::Status set = events_->SetRate(rate);
  const uint64_t to = kernel_.Now();
  rates_.push_back({.from_ns = to, .rate = set.ok() ? rate : before});
  if (rates_.size() > kRatesKept) rates_.pop_front();
  if (stop) {
    if (absl::Status started = events_->StartSampling(); set.ok()) set = started;
  }
  absl::MutexLock lock(&mutex_);
  if (set.ok()) rate_ = rate;
  if (stop) {
    rate_gaps_.Begin(kAllCpus, from);
    rate_gaps_.End(kAllCpus, kernel_.Now());
  }
  if (set.ok()) return set;
  return absl::Status(set.code(), absl::StrCat(set.message(), ": the rate ", rate,
                                               options_.kind.by_period
                                                   ? " events a sample"
                                                   : " Hz; see kernel.perf_event_max_sample_rate"));
}

uint64_t Flow::RateAt(uint64_t time_ns) const {
  for (auto change = rates_.rbegin(); change != rates_.rend(); ++change) {
    if (time_ns >= change->from_ns || std::next(change) == rates_.rend()) return change->rate;
  }
  return options_.rate;
}

void Flow::SetCpus(CpuSet cpus) {
  {
    absl::MutexLock lock(&mutex_);
    if (cpus == cpus_) return;
    cpus_ = cpus;
  }
  events_->SetCpus(std::move(cpus));
}

void Flow::PipelineEnded(const absl::Status& status) {
  // No worker runs any more. Before anybody is told that it has ended.
  source_.tasks->End();
  std::deque<Command> unheard;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    unheard.swap(commands_);
  }
  unheard.insert(unheard.end(), widening_.begin(), widening_.end());
  for (const Command& command : unheard) {
    if (command.answered == nullptr) continue;
    *command.status = absl::UnavailableError("the events have just been closed; try again");
    command.answered->Notify();
  }
  const uint64_t now = kernel_.Now();
  const pmu::SourceStats end = SourceNow();
  for (FlowShare* share : active_) {
    absl::MutexLock lock(&share->mutex_);
    share->at_end_ = end;
    share->window_end_ns_ = share->end_ns_ = now;
  }
  leaving_.insert(leaving_.end(), active_.begin(), active_.end());
  for (FlowShare* share : leaving_) share->Finish(status);
  ended_();
}

}  // namespace lbrd::daemon
