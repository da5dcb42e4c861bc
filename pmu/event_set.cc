#include "pmu/event_set.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/cpu_target.h"
#include "pmu/task_target.h"
#include "pmu/thread_target.h"

namespace lbrd::pmu {

absl::StatusOr<std::unique_ptr<EventSet>> EventSet::Open(Kernel& kernel, const ChosenEvent& event,
                                                         const EventTarget& target,
                                                         uint64_t ring_bytes) {
  if (ring_bytes == 0) ring_bytes = kDefaultRingBytes;
  if (ring_bytes > kMaxRingBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ring of ", ring_bytes, " bytes is too large; the most is ", kMaxRingBytes));
  }
  ring_bytes = std::bit_ceil(std::max(ring_bytes, kernel.PageBytes()));
  std::unique_ptr<EventSet> set(new EventSet(kernel));
  if (absl::Status opened = set->OpenAll(event, target, ring_bytes); !opened.ok()) return opened;
  return set;
}

EventSet::EventSet(Kernel& kernel)
    : kernel_(kernel),
      rings_(kernel, [this](const perf_event_header* header, SampleId* who, uint32_t* index) {
        return PeekRing(header, who, index);
      }) {}

EventSet::~EventSet() {
  target_.reset();
  installer_.reset();  // releases all events
  if (signal_fd_ >= 0) kernel_.Close(signal_fd_);
  if (pid_fd_ >= 0) kernel_.Close(pid_fd_);
}

absl::Status EventSet::OpenAll(const ChosenEvent& event, const EventTarget& target,
                               uint64_t ring_bytes) {
  code_ = event.code;
  enable_on_exec_ = target.enable_on_exec;
  perf_event_attr sampling = event.attr;
  sampling.inherit = target.pid.has_value();
  sampling.enable_on_exec = target.enable_on_exec;
  const bool read_lost = (sampling.read_format & PERF_FORMAT_LOST) != 0;
  // The side-band event takes the same ladder: build IDs in mappings came later than dummies.
  perf_event_attr side_band{};
  for (const bool build_ids : {true, false}) {
    side_band = BuildSideBandAttr(build_ids, read_lost);
    side_band.inherit = sampling.inherit;
    ReceiveDeferredChains(sampling, &side_band);
    const int fd = kernel_.OpenEvent(side_band, 0, -1);
    if (fd < 0) continue;
    kernel_.Close(fd);
    break;
  }
  events_.push_back({code_.name, sampling, RecordFormat::FromAttr(sampling)});
  events_.push_back({"side-band", side_band, RecordFormat::FromAttr(side_band)});

  signal_fd_ = kernel_.OpenSignal();
  if (signal_fd_ < 0) return absl::ErrnoToStatus(-signal_fd_, "cannot make an eventfd");
  if (target.pid.has_value()) {
    pid_fd_ = kernel_.OpenPid(*target.pid);
    if (pid_fd_ < 0) {
      return ExplainOpenError(-pid_fd_, code_, absl::StrCat("process ", *target.pid));
    }
  }
  if (target.uid.has_value() && target.ownership_of) {
    owners_.emplace(kernel_, target.ownership_of);
  } else if (target.uid.has_value()) {
    users_.emplace(kernel_, *target.uid);
  }
  if (absl::Status opened = OpenTarget(target, ring_bytes); !opened.ok()) return opened;
  cpus_ = target_->cpus();
  return absl::OkStatus();
}

absl::Status EventSet::OpenTarget(const EventTarget& target, uint64_t ring_bytes) {
  const auto make_installer = [&](uint64_t bytes) {
    for (SourceEvent& event : events_) {
      // A reader that wakes at a quarter of the ring has three quarters left to be late. Of large
      // rings it wakes earlier: what it reads at once is then passed on in few batches, whose
      // memory is soon there again (daemon/record_queue.h).
      event.attr.watermark = 1;
      event.attr.wakeup_watermark = static_cast<uint32_t>(std::min(bytes / 4, kWakeupBytes));
    }
    installer_ = std::make_unique<Installer>(kernel_, &rings_, &events_, code_);
  };
  make_installer(ring_bytes);
  if (target.tid.has_value()) {
    target_ = std::make_unique<ThreadTarget>(installer_.get(), target, ring_bytes, "");
    return target_->Open();
  }
  if (!target.pid.has_value()) {
    target_ = std::make_unique<CpuTarget>(installer_.get(), target, ring_bytes);
    return target_->Open();
  }
  auto tasks = std::make_unique<TaskTarget>(installer_.get(), target, ring_bytes);
  const absl::Status opened = tasks->Open();
  if (opened.ok() || !tasks->needs_fewer_descriptors()) {
    target_ = std::move(tasks);
    return opened;
  }
  std::string why = absl::StrCat(
      "the process is followed thread by thread: ", tasks->threads_found(), " threads on ",
      tasks->cpus_wanted(), " CPUs would need ", tasks->threads_found() * tasks->cpus_wanted() * 2,
      " descriptors, and half of the ", kernel_.DescriptorLimit(),
      " that lbrd may have is the most");
  tasks->Abandon();
  tasks.reset();
  installer_.reset();
  rings_.UnmapDrained();
  for (SourceEvent& event : events_) event.attr.inherit = 0;
  ring_bytes = std::min(ring_bytes, ThreadTarget::kThreadRingBytes);
  make_installer(ring_bytes);
  target_ = std::make_unique<ThreadTarget>(installer_.get(), target, ring_bytes, std::move(why));
  return target_->Open();
}

absl::Status EventSet::StartSideBand() {
  // With enable_on_exec the side band too may be enabled now: what precedes the exec is harmless.
  if (absl::Status enabled = installer_->side_band_root()->Enable(); !enabled.ok()) return enabled;
  target_->Started(kernel_.Now());
  return absl::OkStatus();
}

absl::Status EventSet::StartSampling() {
  return enable_on_exec_ ? absl::OkStatus() : installer_->sampling_root()->Enable();
}

void EventSet::PauseSampling() { installer_->sampling_root()->Disable(); }

absl::Status EventSet::SetRate(uint64_t rate) {
  // For what is opened from now on, on a CPU that comes online; sample_freq is the same field.
  events_[kSamplingEvent].attr.sample_period = rate;
  // The kernel turns a clock's frequency into a period once and for all when it is opened: from
  // then on it takes nanoseconds, and a frequency for such would be a storm of interrupts.
  const bool nanoseconds = code_.clock() && events_[kSamplingEvent].attr.freq != 0;
  return installer_->sampling_root()->SetPeriod(nanoseconds ? 1'000'000'000 / rate : rate);
}

void EventSet::Refresh() {
  ReadCounts();
  // From here on LOST records are counted on top, until it is read again.
  lost_is_exact_ = false;
}

bool EventSet::PeekRing(const perf_event_header* header, SampleId* who, uint32_t* event) {
  *event = header->type == PERF_RECORD_SAMPLE ? kSamplingEvent : kSideBandEvent;
  // Both formats end records that are not samples with the same sample_id.
  const std::optional<SampleId> peeked = PeekRecord(header, events_[*event].format);
  if (!peeked.has_value()) return false;
  *who = *peeked;
  return true;
}

bool EventSet::Take(RawRecord* out) {
  const std::vector<uint64_t>& words = made_.words();
  if (made_at_ < words.size()) {
    out->header = reinterpret_cast<const perf_event_header*>(words.data() + made_at_);
    out->event = kMadeRecord;
    // A record that RecordWriter made begins with its process and thread.
    out->who = {.pid = static_cast<int32_t>(words[made_at_ + 1]),
                .tid = static_cast<int32_t>(words[made_at_ + 1] >> 32)};
    made_at_ += out->header->size / 8;
    return true;
  }
  const RingOrder::Next* next = rings_.order().Pop();
  if (next == nullptr && !finished_) {
    // Nothing is held now: what moved can be followed, and what is empty given back.
    const uint64_t now = kernel_.Now();
    made_.Clear();
    made_at_ = 0;
    target_->Follow(now, &made_);
    const uint64_t gaps_ended = target_->gaps_ended();
    if (std::exchange(gaps_ended_, gaps_ended) != gaps_ended && owners_.has_value())
      owners_->Lost();
    rings_.UnmapDrained();
    if (!made_.words().empty()) return Take(out);
    rings_.order().BeginRound(now);
    next = rings_.order().Pop();
  }
  if (next == nullptr) return false;
  taken_from_ = next->ring;
  *out = {.header = next->header, .event = next->event, .who = next->who};
  return true;
}

absl::StatusOr<ReadResult> EventSet::Next(RawRecord* out) {
  while (Take(out)) {
    if (Account(*out)) return ReadResult::kRecord;
  }
  late_.store(rings_.order().late(), std::memory_order_relaxed);
  undecodable_.store(rings_.order().malformed(), std::memory_order_relaxed);
  rings_.order().ReleaseAll();
  return finished_ ? ReadResult::kEnd : ReadResult::kIdle;
}

bool EventSet::Account(const RawRecord& record) {
  if (record.event == kMadeRecord) return true;
  const uint32_t type = record.header->type;
  const TargetEvents::Verdict verdict = target_->See(record, taken_from_);
  if (type == PERF_RECORD_SAMPLE) {
    samples_.fetch_add(1, std::memory_order_relaxed);
    if (verdict == TargetEvents::Verdict::kDuplicate) {
      duplicates_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    if (verdict == TargetEvents::Verdict::kOtherUser || OfOtherUser(record)) {
      other_users_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    return true;
  }
  other_records_.fetch_add(1, std::memory_order_relaxed);
  FollowUsers(record);
  if (type == PERF_RECORD_THROTTLE) {
    throttled_.fetch_add(1, std::memory_order_relaxed);
  } else if (type == PERF_RECORD_LOST || type == PERF_RECORD_LOST_SAMPLES) {
    const absl::StatusOr<Record> lost = DecodeRecord(record.header, events_[record.event].format);
    if (lost.ok()) CountLost(std::get<LostRecord>(*lost));
  }
  return true;
}

bool EventSet::OfOtherUser(const RawRecord& record) {
  const int32_t pid = record.who.pid;
  if (users_.has_value()) return !users_->Wanted(pid, record.who.time);
  return owners_.has_value() && !owners_->Wanted(pid, record.who.time);
}

void EventSet::FollowUsers(const RawRecord& record) {
  if (!users_.has_value() && !owners_.has_value()) return;
  const uint32_t type = record.header->type;
  const uint64_t time = record.who.time;
  if (type == PERF_RECORD_COMM && (record.header->misc & PERF_RECORD_MISC_COMM_EXEC) != 0) {
    if (users_.has_value()) users_->Executed(record.who.pid);
    if (owners_.has_value()) owners_->Executed(record.who.pid, time);
  } else if (type == PERF_RECORD_FORK || type == PERF_RECORD_EXIT) {
    const absl::StatusOr<Record> decoded =
        DecodeRecord(record.header, events_[record.event].format);
    if (!decoded.ok()) return;
    const auto& task = std::get<TaskRecord>(*decoded);
    if (!task.exit) {
      if (users_.has_value()) users_->Forked(task.pid, task.ppid);
      if (owners_.has_value()) owners_->Forked(task.pid, task.ppid, time);
    } else if (task.pid == task.tid) {
      if (users_.has_value()) users_->Exited(task.pid);
      if (owners_.has_value()) owners_->Exited(task.pid, time);
    }
  } else if (type == PERF_RECORD_LOST && owners_.has_value()) {
    owners_->Lost();
  }
}

void EventSet::CountLost(const LostRecord& lost) {
  // Lost within the PMU, before any ring: no event's own count has them.
  if (lost.samples_only) lost_in_pmu_ += lost.count;
  // Else records of any kind: good enough until Finish() has read the exact counts per event.
  if (lost.samples_only || !lost_is_exact_) {
    lost_samples_.fetch_add(lost.count, std::memory_order_relaxed);
  }
}

void EventSet::Wait(absl::Duration timeout) {
  rings_.order().ReleaseAll();
  if (polled_changes_ != rings_.changes()) {
    poll_.clear();
    poll_.push_back({signal_fd_, POLLIN, 0});
    poll_.push_back({target_gone_ ? -1 : pid_fd_, POLLIN, 0});  // poll skips what is negative
    rings_.AppendPoll(&poll_);
    polled_changes_ = rings_.changes();
  }
  for (pollfd& entry : poll_) entry.revents = 0;
  const int ready = kernel_.Poll(poll_, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  if (ready > 0) {
    if (poll_[0].revents != 0) {
      uint64_t count;
      kernel_.ReadCounts(signal_fd_, std::span(&count, 1));
    }
    if ((poll_[1].revents & POLLIN) != 0) {
      target_gone_ = true;
      poll_[1].fd = -1;  // readable for good: it must not keep waking us
    }
    rings_.TakePoll(poll_, [this](Ring* ring) { target_->HungUp(ring); });
  }
  if (target_->gone()) target_gone_ = true;
}

void EventSet::Interrupt() { kernel_.Signal(signal_fd_); }

void EventSet::Finish() {
  if (finished_) return;
  finished_ = true;
  target_->Finishing();
  // Samples first, so that the side band covers all of them. Disabling returns when the event has
  // stopped on its CPU, so afterwards the rings are final.
  installer_->sampling_root()->Disable();
  installer_->side_band_root()->Disable();
  ReadCounts();
  rings_.order().Drain();
}

void EventSet::ReadCounts() {
  const EventCounts sampling = installer_->sampling_root()->Read();
  const EventCounts side_band = installer_->side_band_root()->Read();
  kernel_count_ = sampling.value;
  time_running_ns_ = sampling.time_running_ns;
  // The kernel does not bring the time of a child's events up to date that never ran: of a thousand
  // short children the sum is less than what all have.
  time_enabled_ns_ =
      std::max(sampling.time_enabled_ns / std::max<size_t>(target_->events_per_clock(), 1),
               sampling.time_running_ns);
  if ((events_[kSamplingEvent].attr.read_format & PERF_FORMAT_LOST) != 0) {
    lost_is_exact_ = true;
    lost_samples_ = sampling.lost + lost_in_pmu_;
    lost_other_ = side_band.lost;
  }
}

SourceStats EventSet::stats() const {
  SourceStats stats{.samples = samples_,
                    .other_records = other_records_,
                    .lost_samples = lost_samples_,
                    .lost_other = lost_other_,
                    .late_records = late_,
                    .undecodable = undecodable_,
                    .throttled = throttled_,
                    .kernel_count = kernel_count_,
                    .time_enabled_ns = time_enabled_ns_,
                    .time_running_ns = time_running_ns_,
                    .duplicates = duplicates_,
                    .other_users = other_users_};
  target_->DescribeGaps(&stats);
  return stats;
}

absl::Status EventSet::LendEvent(int32_t cpu,
                                 const std::function<absl::Status(const LentEvent&)>& take) const {
  return installer_->Lend(cpu, take);
}

std::vector<std::string> EventSet::notes() const { return target_->notes(); }

}  // namespace lbrd::pmu
