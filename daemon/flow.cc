#include "daemon/flow.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/private_feed.h"
#include "pmu/event_set.h"
#include "pmu/proc_scan.h"

namespace lbrd::daemon {
namespace {

// Changes of rate that are remembered: a sample is read at most some hundred milliseconds late.
constexpr size_t kRatesKept = 64;

void Add(std::atomic<uint64_t>* count) {
  // One writer.
  count->store(count->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The gaps of the CPUs asked for, as far as they lie in [from, to).
void ClipGaps(uint64_t from, uint64_t to, uint64_t now, const CpuSet& cpus, size_t flow_cpus,
              const std::vector<pmu::CpuGap>& gaps, pmu::SourceStats* out) {
  for (pmu::CpuGap gap : gaps) {
    const bool lasts = gap.to_ns == 0;
    const uint64_t end = std::min(lasts ? now : gap.to_ns, to);
    gap.from_ns = std::max(gap.from_ns, from);
    if (gap.from_ns >= end) continue;
    if (gap.cpu >= 0 && !cpus.empty() && !std::binary_search(cpus.begin(), cpus.end(), gap.cpu)) {
      continue;
    }
    if (!lasts) gap.to_ns = end;
    ++out->gap_count;
    const uint64_t on_cpus = gap.cpu >= 0 ? 1 : cpus.empty() ? flow_cpus : cpus.size();
    out->gap_ns += (end - gap.from_ns) * on_cpus;
    if (out->gaps.size() < pmu::kMaxGaps) out->gaps.push_back(gap);
  }
}

}  // namespace

FlowShare::FlowShare(std::shared_ptr<Flow> flow, uint64_t id, FlowDemand demand, FilterSpec filter)
    : flow_(std::move(flow)),
      id_(id),
      demand_(std::move(demand)),
      filter_(std::move(filter)),
      // The starts of one share say nothing about another's.
      thinning_(flow_->kernel_.Now() ^ (id << 48)) {}

FlowShare::~FlowShare() {
  RequestStop();
  bool begun = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return life_ != Life::kBegun;
    };
    mutex_.Await(absl::Condition(&settled));
    begun = life_ == Life::kOver;
  }
  if (!begun) flow_->Leave();
  if (pid_fd_ >= 0) flow_->kernel_.Close(pid_fd_);
}

absl::Status FlowShare::Begin(absl::Duration duration, SampleSink* sink,
                              std::function<void(const absl::Status&)> done) {
  const FilterSpec& wants = filter_.spec();
  if (wants.process.has_value()) {
    pid_fd_ = flow_->kernel_.OpenPid(*wants.process);
    if (pid_fd_ < 0) {
      return absl::NotFoundError(absl::StrCat("there is no process ", *wants.process));
    }
  }
  if (wants.thread.has_value() && pmu::GroupLeaderOf(flow_->kernel_, *wants.thread) <= 0) {
    return absl::NotFoundError(absl::StrCat("there is no thread ", *wants.thread));
  }
  sink_ = sink;
  done_ = std::move(done);
  {
    absl::MutexLock lock(&mutex_);
    life_ = Life::kBegun;
  }
  absl::Status begun = flow_->Start(this, duration);
  if (!begun.ok()) {
    absl::MutexLock lock(&mutex_);
    life_ = Life::kNew;
  }
  return begun;
}

void FlowShare::RequestStop() {
  {
    absl::MutexLock lock(&mutex_);
    if (life_ != Life::kBegun) return;
  }
  flow_->Post({.kind = Flow::Command::kStop, .share_id = id_});
}

void FlowShare::Take(const pmu::RawRecord& record, std::optional<uint32_t> uid, uint64_t flow_rate,
                     std::vector<SampleShare>* shares) {
  if (!Within(record.who.time)) return;
  Add(&flow_samples_);
  if (const LeftOut why = filter_.Judge(record.who, uid); why != LeftOut::kNot) {
    Add(&left_out_[static_cast<size_t>(why)]);
    return;
  }
  const double keep = KeepProbability(demand_.kind, flow_rate, demand_.rate);
  if (!thinning_.Keep(record.who.has_cpu ? record.who.cpu : 0, keep)) {
    Add(&thinned_);
    return;
  }
  Add(&admitted_);
  // By period each sample stands for as many events as were asked for, and of a clock for as many
  // nanoseconds; by frequency for 1/keep times what the kernel says of it.
  uint64_t weight = 0;
  if (demand_.kind.by_period) {
    weight = demand_.rate;
  } else if (flow_->clock_) {
    weight = 1'000'000'000 / demand_.rate;
  }
  shares->push_back({.subscriber = this, .weight = weight, .scale = 1 / keep});
}

bool FlowShare::WantsComm(absl::string_view comm) {
  const std::string& wanted = filter_.spec().comm;
  if (wanted.empty() || comm == wanted) return true;
  other_comm_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void FlowShare::Dropped(Drop why) {
  (why == Drop::kQueueFull ? dropped_queue_full_ : undecodable_)
      .fetch_add(1, std::memory_order_relaxed);
}

void FlowShare::Finish(const absl::Status& status) {
  flow_->Leave();
  done_(status);
  absl::MutexLock lock(&mutex_);
  life_ = Life::kOver;
}

FeedStats FlowShare::stats() const {
  const auto left_out = [this](LeftOut why) {
    return left_out_[static_cast<size_t>(why)].load(std::memory_order_relaxed);
  };
  FeedStats out{.dropped_queue_full = dropped_queue_full_,
                .undecodable_samples = undecodable_,
                .flow_samples = flow_samples_,
                .thinned = thinned_,
                .other_cpu = left_out(LeftOut::kOtherCpu),
                .other_thread = left_out(LeftOut::kOtherThread),
                .other_process = left_out(LeftOut::kOtherProcess),
                .other_comm = other_comm_,
                .lbr_windows = flow_->LbrWindows()};
  out.source.other_users = left_out(LeftOut::kOtherUser);
  out.source.samples = admitted_ + out.source.other_users - out.other_comm;
  pmu::SourceStats now;
  pmu::SourceStats begin;
  uint64_t from = 0;
  uint64_t to = 0;
  {
    absl::MutexLock lock(&mutex_);
    from = window_begin_ns_;
    to = window_end_ns_;
    begin = at_begin_;
    if (at_end_.has_value()) now = *at_end_;
  }
  if (from == 0) return out;  // not begun
  if (to == UINT64_MAX) now = flow_->SourceNow();
  out.source.lost_samples = now.lost_samples - std::min(now.lost_samples, begin.lost_samples);
  out.source.lost_other = now.lost_other - std::min(now.lost_other, begin.lost_other);
  out.source.late_records = now.late_records - begin.late_records;
  out.source.undecodable = now.undecodable - begin.undecodable;
  out.source.throttled = now.throttled - begin.throttled;
  out.source.kernel_count = now.kernel_count - std::min(now.kernel_count, begin.kernel_count);
  out.source.time_enabled_ns =
      now.time_enabled_ns - std::min(now.time_enabled_ns, begin.time_enabled_ns);
  out.source.time_running_ns =
      now.time_running_ns - std::min(now.time_running_ns, begin.time_running_ns);
  ClipGaps(from, to, std::min(to, flow_->kernel_.Now()), demand_.cpus, flow_->source_.cpus,
           now.gaps, &out.source);
  return out;
}

std::vector<Progress> FlowShare::progress() const { return flow_->progress(); }

void FlowShare::Describe(v1::Session* out) const {
  flow_->DescribeTo(out);
  // What this session asked for, not what the flow needs for others.
  for (v1::SessionEvent& event : *out->mutable_events()) {
    demand_.kind.by_period ? event.set_period(demand_.rate)
                           : event.set_frequency_hz(static_cast<uint32_t>(demand_.rate));
  }
  if (!demand_.cpus.empty()) out->set_cpus(static_cast<uint32_t>(demand_.cpus.size()));
}

absl::Status FlowShare::Lend(int32_t cpu,
                             const std::function<absl::Status(const pmu::LentEvent&)>& take) const {
  if (!Covers(demand_.cpus, {cpu})) {
    return absl::NotFoundError(absl::StrCat("the session has no event on CPU ", cpu));
  }
  absl::ReaderMutexLock lock(&flow_->pipeline_mutex_);
  if (flow_->pipeline_ == nullptr) return absl::NotFoundError("the session's events are closed");
  return flow_->pipeline_->source().LendEvent(cpu, take);
}

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
                                         source_.kernel_names.symbols.get(),
                                         source_.kernel_names.missing, nullptr, how);
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
  absl::MutexLock lock(&mutex_);
  stats.gaps.insert(stats.gaps.end(), rate_gaps_.begin(), rate_gaps_.end());
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
  for (const std::string& note : source_.notes) out->add_notes(note);
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
  if (type == PERF_RECORD_COMM && (record.header->misc & PERF_RECORD_MISC_COMM_EXEC) != 0) {
    users_.Executed(record.who.pid);
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
    for (FlowShare* share : active_) share->filter_.Forked(pid, parent_pid);
    for (FlowShare* share : leaving_) share->filter_.Forked(pid, parent_pid);
    return;
  }
  if (pid == tid) users_.Exited(pid);
  for (FlowShare* share : active_) {
    share->gone_ = share->gone_ || share->filter_.spec().thread == tid;
  }
}

void Flow::Attend() {
  const uint64_t handed_out_before = events_->handed_out_before();
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
    if (share->filter_.spec().uid.has_value()) --by_user_;
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
  uint64_t next = UINT64_MAX;
  for (const FlowShare* share : active_) next = std::min(next, share->deadline_ns_);
  if (next == UINT64_MAX) return absl::InfiniteDuration();
  const uint64_t now = kernel_.Now();
  return absl::Nanoseconds(next <= now ? 0 : static_cast<int64_t>(next - now));
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
  if (share->filter_.spec().uid.has_value()) ++by_user_;
  return absl::OkStatus();
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

absl::Status Flow::SetRate(uint64_t rate) {
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
  if (stop && rate_gaps_.size() < pmu::kMaxGaps) {
    rate_gaps_.push_back({.cpu = -1, .from_ns = from, .to_ns = kernel_.Now()});
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
