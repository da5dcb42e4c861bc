#include "daemon/flow_share.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/flow.h"
#include "pmu/proc_scan.h"

namespace lbrd::daemon {
namespace {

void Add(std::atomic<uint64_t>* count) {
  // One writer.
  count->store(count->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The gaps of the CPUs asked for, as far as they lie in a window: what the source had counted at
// its beginning and at its end.
struct GapWindow {
  uint64_t from_ns;
  uint64_t to_ns;
  const pmu::SourceStats& begin;
  const pmu::SourceStats& end;
  const CpuSet& cpus;  // empty: all
  size_t flow_cpus;

  bool Wants(int32_t cpu) const {
    return cpu == kAllCpus || cpus.empty() || std::binary_search(cpus.begin(), cpus.end(), cpu);
  }
  uint64_t OnCpus(int32_t cpu) const {
    if (cpu != kAllCpus) return 1;
    return cpus.empty() ? flow_cpus : cpus.size();
  }

  void Count(pmu::SourceStats* out) const {
    for (const pmu::CpuGapTotal& now : end.gaps_by_cpu) {
      if (!Wants(now.cpu)) continue;
      const auto found =
          std::find_if(begin.gaps_by_cpu.begin(), begin.gaps_by_cpu.end(),
                       [&now](const pmu::CpuGapTotal& total) { return total.cpu == now.cpu; });
      const pmu::CpuGapTotal before =
          found == begin.gaps_by_cpu.end() ? pmu::CpuGapTotal{.cpu = now.cpu} : *found;
      const bool lasted = before.since_ns != 0;
      out->gap_count += now.count - before.count + (lasted ? 1 : 0);
      out->gap_ns += (SumUntil(now, to_ns) - SumUntil(before, from_ns)) * OnCpus(now.cpu);
    }
  }

  static uint64_t SumUntil(const pmu::CpuGapTotal& total, uint64_t time_ns) {
    if (total.since_ns == 0) return total.ended_ns;
    return total.ended_ns + std::max(time_ns, total.since_ns) - total.since_ns;
  }

  // The first pmu::kMaxGaps of those that the source still tells.
  void List(pmu::SourceStats* out) const {
    for (pmu::CpuGap gap : end.recent_gaps) {
      if (out->gaps.size() == pmu::kMaxGaps) return;
      const bool lasts = gap.to_ns == 0;
      gap.from_ns = std::max(gap.from_ns, from_ns);
      if (!Wants(gap.cpu) || gap.from_ns >= (lasts ? to_ns : std::min(gap.to_ns, to_ns))) continue;
      if (!lasts) gap.to_ns = std::min(gap.to_ns, to_ns);
      out->gaps.push_back(gap);
    }
  }
};

}  // namespace

FlowShare::FlowShare(std::shared_ptr<Flow> flow, uint64_t id, FlowDemand demand, FilterSpec filter)
    : flow_(std::move(flow)),
      id_(id),
      demand_(std::move(demand)),
      filter_(std::move(filter)),
      // The starts of one share say nothing about another's.
      thinning_(flow_->kernel_.Now() ^ (id << 48)),
      slowest_rate_(demand_.rate) {}

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
  if (wants.thread.has_value() &&
      !pmu::StartTicksOf(flow_->kernel_, *wants.thread, *wants.thread).has_value()) {
    return absl::NotFoundError(absl::StrCat("there is no thread ", *wants.thread));
  }
  sink_ = sink;
  done_ = std::move(done);
  {
    absl::MutexLock lock(&mutex_);
    life_ = Life::kBegun;
  }
  const absl::Status begun = flow_->Start(this, duration);
  {
    absl::MutexLock lock(&mutex_);
    if (!begun.ok()) life_ = Life::kNew;
    if (!begun.ok() || !stop_asked_) return begun;
  }
  // The flow may have been told before it knew of this share.
  RequestStop();
  return begun;
}

void FlowShare::RequestStop() {
  {
    absl::MutexLock lock(&mutex_);
    stop_asked_ = true;
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
  if (owned_ != nullptr && !owned_->Wanted(record.who.pid, record.who.time)) {
    Add(&left_out_[static_cast<size_t>(LeftOut::kOtherUser)]);
    return;
  }
  if (at_rate_.flow_rate != flow_rate) SetRate(flow_rate);
  if (!thinning_.Keep(record.who.has_cpu ? record.who.cpu : 0, at_rate_.keep)) {
    Add(&thinned_);
    return;
  }
  Add(&admitted_);
  shares->push_back({.subscriber = this,
                     .weight = at_rate_.weight,
                     .scale = 1 / at_rate_.keep,
                     .asks_comm = !filter_.spec().comm.empty()});
}

void FlowShare::SetRate(uint64_t flow_rate) {
  // While lbrd keeps within its CPU budget there may be fewer samples than were asked for.
  const uint64_t rate = SlowerRate(demand_.kind, demand_.rate, flow_rate);
  const uint64_t slowest = slowest_rate_.load(std::memory_order_relaxed);
  slowest_rate_.store(SlowerRate(demand_.kind, slowest, rate), std::memory_order_relaxed);
  at_rate_ = {.flow_rate = flow_rate, .keep = KeepProbability(demand_.kind, flow_rate, rate)};
  // By period each sample stands for as many events, and of a clock for as many nanoseconds; by
  // frequency for 1/keep times what the kernel says of it.
  if (demand_.kind.by_period) {
    at_rate_.weight = rate;
  } else if (flow_->clock_) {
    at_rate_.weight = 1'000'000'000 / rate;
  }
}

bool FlowShare::Hurries() const {
  const FilterSpec& wants = filter_.spec();
  // A process is asked whose it is while it lives.
  if (wants.uid.has_value() || wants.viewer.has_value()) return true;
  return wants.thread.has_value() || pid_fd_ >= 0 || sink_->haste() == Haste::kWaitedFor;
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
                .lbr_windows = {}};
  if (!filter_.spec().viewer.has_value()) out.lbr_windows = flow_->LbrWindows();
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
  const GapWindow window{.from_ns = from,
                         .to_ns = std::min(to, flow_->kernel_.Now()),
                         .begin = begin,
                         .end = now,
                         .cpus = demand_.cpus,
                         .flow_cpus = flow_->source_.cpus};
  window.Count(&out.source);
  window.List(&out.source);
  return out;
}

std::vector<Progress> FlowShare::progress() const { return flow_->progress(); }

void FlowShare::Describe(v1::Session* out) const {
  flow_->DescribeTo(out);
  if (filter_.spec().viewer.has_value()) {
    v1::FlowInfo* flow = out->mutable_flow();
    flow->clear_sessions();
    flow->clear_frequency_hz();
    flow->clear_period();
  }
  // What this session asked for, not what the flow needs for others.
  for (v1::SessionEvent& event : *out->mutable_events()) {
    demand_.kind.by_period ? event.set_period(demand_.rate)
                           : event.set_frequency_hz(static_cast<uint32_t>(demand_.rate));
  }
  if (!demand_.cpus.empty()) out->set_cpus(static_cast<uint32_t>(demand_.cpus.size()));
  if (const uint64_t slowest = slowest_rate_; slowest != demand_.rate) {
    out->add_notes(absl::StrCat(
        "at times sampled ",
        demand_.kind.by_period ? absl::StrCat("every ", slowest, " events")
                               : absl::StrCat("at ", slowest, " Hz"),
        " only, to keep lbrd within its CPU budget (max-cpu); the samples' weights say so"));
  }
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

}  // namespace lbrd::daemon
