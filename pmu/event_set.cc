#include "pmu/event_set.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/cpu_list.h"

namespace lbrd::pmu {
namespace {

constexpr uint32_t kSampling = 0;
constexpr uint32_t kSideBand = 1;

absl::StatusOr<std::vector<int32_t>> OnlineCpus(Kernel& kernel) {
  absl::StatusOr<std::string> text = kernel.ReadFile("/sys/devices/system/cpu/online", 65536);
  if (!text.ok()) return text.status();
  return ParseCpuList(*text);
}

// Opening stops being worth it when threads come faster than it goes.
constexpr int kMaxEnumerations = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<EventSet>> EventSet::Open(Kernel& kernel, const ChosenEvent& event,
                                                         const EventTarget& target,
                                                         uint64_t ring_bytes) {
  if (ring_bytes == 0) ring_bytes = kDefaultRingBytes;
  if (ring_bytes > kMaxRingBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ring of ", ring_bytes, " bytes is too large; the most is ", kMaxRingBytes));
  }
  ring_bytes = std::bit_ceil(std::max(ring_bytes, kernel.PageBytes()));
  std::unique_ptr<EventSet> set(new EventSet(kernel, ring_bytes));
  if (absl::Status opened = set->OpenAll(event, target); !opened.ok()) return opened;
  return set;
}

EventSet::~EventSet() {
  for (const MappedRing& ring : rings_) kernel_.UnmapRing(ring.memory, ring_bytes_);
  for (const OpenEvent& event : open_) kernel_.Close(event.fd);
  if (signal_fd_ >= 0) kernel_.Close(signal_fd_);
  if (pid_fd_ >= 0) kernel_.Close(pid_fd_);
}

absl::Status EventSet::OpenAll(const ChosenEvent& event, const EventTarget& target) {
  event_ = event;
  enable_on_exec_ = target.enable_on_exec;
  event_.attr.inherit = target.pid.has_value();
  event_.attr.enable_on_exec = target.enable_on_exec;
  const bool read_lost = (event_.attr.read_format & PERF_FORMAT_LOST) != 0;
  // The side-band event takes the same ladder: build IDs in mappings came later than dummies.
  perf_event_attr side_band{};
  for (const bool build_ids : {true, false}) {
    side_band = BuildSideBandAttr(build_ids, read_lost);
    side_band.inherit = event_.attr.inherit;
    ReceiveDeferredChains(event_.attr, &side_band);
    const int fd = kernel_.OpenEvent(side_band, 0, -1);
    if (fd < 0) continue;
    kernel_.Close(fd);
    break;
  }
  // A reader that wakes at a quarter of the ring has three quarters left to be late.
  for (perf_event_attr* attr : {&event_.attr, &side_band}) {
    attr->watermark = 1;
    attr->wakeup_watermark = static_cast<uint32_t>(ring_bytes_ / 4);
  }
  events_.push_back({event_.code.name, event_.attr, RecordFormat::FromAttr(event_.attr)});
  events_.push_back({"side-band", side_band, RecordFormat::FromAttr(side_band)});
  order_ =
      std::make_unique<RingOrder>([this](const perf_event_header* header, SampleId* who,
                                         uint32_t* index) { return PeekRing(header, who, index); });

  signal_fd_ = kernel_.OpenSignal();
  if (signal_fd_ < 0) return absl::ErrnoToStatus(-signal_fd_, "cannot make an eventfd");
  absl::StatusOr<std::vector<int32_t>> cpus = OnlineCpus(kernel_);
  if (!cpus.ok()) return cpus.status();

  if (target.pid.has_value()) {
    pid_fd_ = kernel_.OpenPid(*target.pid);
    if (pid_fd_ < 0) {
      return ExplainOpenError(-pid_fd_, event_.code, absl::StrCat("process ", *target.pid));
    }
    if (absl::Status opened = OpenThreads(target, *cpus); !opened.ok()) return opened;
  } else {
    for (const int32_t cpu : *cpus) {
      absl::Status opened = OpenPair(-1, cpu);
      if (absl::IsUnavailable(opened)) continue;  // went offline since the list was read
      if (!opened.ok()) return opened;
    }
  }
  if (rings_.empty()) {
    return absl::NotFoundError(absl::StrCat("nothing to sample: ", target.pid.has_value()
                                                                       ? "the process has ended"
                                                                       : "no CPU is online"));
  }
  for (const MappedRing& ring : rings_) poll_.push_back({ring.fd, POLLIN, 0});
  poll_.push_back({signal_fd_, POLLIN, 0});
  if (pid_fd_ >= 0) poll_.push_back({pid_fd_, POLLIN, 0});
  return absl::OkStatus();
}

absl::Status EventSet::OpenThreads(const EventTarget& target, const std::vector<int32_t>& cpus) {
  const std::string folder = absl::StrCat("/proc/", *target.pid, "/task");
  absl::flat_hash_set<int32_t> known;
  // Threads are born while we open: look again until a pass finds none that is neither ours nor
  // born of one that is (events are inherited).
  for (int pass = 0; pass < kMaxEnumerations; ++pass) {
    const absl::StatusOr<std::vector<int32_t>> tids = kernel_.ListNumbers(folder);
    if (!tids.ok()) {
      if (pass > 0) return absl::OkStatus();  // it ended meanwhile; what it wrote can be read
      return absl::NotFoundError(absl::StrCat("no process ", *target.pid,
                                              "; a thread's ID is not a process's: see ps -e"));
    }
    CollectForked(&known);
    bool news = false;
    for (const int32_t tid : *tids) {
      if (!known.insert(tid).second) continue;
      news = true;
      for (const int32_t cpu : cpus) {
        absl::Status opened = OpenPair(tid, cpu);
        if (absl::IsNotFound(opened)) break;  // the thread ended
        if (absl::IsUnavailable(opened)) continue;
        if (!opened.ok()) return opened;
      }
    }
    if (!news) break;
  }
  return absl::OkStatus();
}

absl::Status EventSet::OpenPair(int32_t pid, int32_t cpu) {
  for (const uint32_t index : {kSideBand, kSampling}) {
    const int fd = kernel_.OpenEvent(events_[index].attr, pid, cpu);
    if (fd < 0) {
      return ExplainOpenError(-fd, event_.code,
                              pid < 0 ? absl::StrCat("CPU ", cpu) : absl::StrCat("thread ", pid));
    }
    open_.push_back({fd, index == kSampling});
    if (absl::Status connected = ConnectToRing(fd, cpu); !connected.ok()) return connected;
    // A thread's forks must be seen from the moment that they inherit its events.
    if (index == kSideBand && pid >= 0 && !enable_on_exec_) {
      if (const int error = kernel_.Control(fd, PERF_EVENT_IOC_ENABLE, 0); error < 0) {
        return absl::ErrnoToStatus(-error, "cannot enable a side-band event");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status EventSet::ConnectToRing(int fd, int32_t cpu) {
  const auto [found, is_new] = ring_of_cpu_.try_emplace(cpu, rings_.size());
  if (!is_new) {
    const int error = kernel_.Control(fd, PERF_EVENT_IOC_SET_OUTPUT,
                                      static_cast<uint64_t>(rings_[found->second].fd));
    if (error == 0) return absl::OkStatus();
    return absl::ErrnoToStatus(-error, absl::StrCat("cannot share the ring of CPU ", cpu));
  }
  int error = 0;
  void* memory = kernel_.MapRing(fd, ring_bytes_, &error);
  if (memory == nullptr) {
    ring_of_cpu_.erase(found);
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot map a ring of ", ring_bytes_ >> 10, " KiB for CPU ", cpu, ": ", strerror(error),
        "; ask for smaller rings, or raise kernel.perf_event_mlock_kb"));
  }
  rings_.push_back(
      {cpu, fd, memory, std::make_unique<Ring>(memory, kernel_.PageBytes(), ring_bytes_)});
  order_->Add(rings_.back().ring.get());
  return absl::OkStatus();
}

void EventSet::CollectForked(absl::flat_hash_set<int32_t>* tids) {
  // A reader of its own, so that the records stay where they are for the session.
  for (const MappedRing& mapped : rings_) {
    Ring ring(mapped.memory, kernel_.PageBytes(), ring_bytes_);
    ring.Refresh();
    while (const perf_event_header* header = ring.Peek()) {
      if (header->type == PERF_RECORD_FORK) {
        SampleId who;
        uint32_t event;
        if (PeekRing(header, &who, &event)) tids->insert(who.tid);
      }
      ring.Advance();
    }
  }
}

absl::Status EventSet::Enable(bool sampling) {
  for (const OpenEvent& event : open_) {
    if (event.sampling != sampling) continue;
    const int error = kernel_.Control(event.fd, PERF_EVENT_IOC_ENABLE, 0);
    if (error < 0) return absl::ErrnoToStatus(-error, "cannot enable an event");
  }
  return absl::OkStatus();
}

absl::Status EventSet::StartSideBand() {
  // With enable_on_exec the side band too may be enabled now: what precedes the exec is harmless.
  return Enable(/*sampling=*/false);
}

absl::Status EventSet::StartSampling() {
  return enable_on_exec_ ? absl::OkStatus() : Enable(/*sampling=*/true);
}

bool EventSet::PeekRing(const perf_event_header* header, SampleId* who, uint32_t* event) {
  *event = header->type == PERF_RECORD_SAMPLE ? kSampling : kSideBand;
  // Both formats end records that are not samples with the same sample_id.
  absl::StatusOr<SampleId> peeked = PeekRecord(header, events_[*event].format);
  if (!peeked.ok()) return false;
  *who = *peeked;
  return true;
}

absl::StatusOr<ReadResult> EventSet::Next(RawRecord* out) {
  const RingOrder::Next* next = order_->Pop();
  if (next == nullptr && !finished_) {
    order_->BeginRound(kernel_.Now());
    next = order_->Pop();
  }
  late_.store(order_->late(), std::memory_order_relaxed);
  undecodable_.store(order_->malformed(), std::memory_order_relaxed);
  if (next == nullptr) {
    order_->ReleaseAll();
    return finished_ ? ReadResult::kEnd : ReadResult::kIdle;
  }
  out->header = next->header;
  out->event = next->event;
  out->who = next->who;
  if (next->header->type == PERF_RECORD_SAMPLE) {
    samples_.fetch_add(1, std::memory_order_relaxed);
  } else {
    other_records_.fetch_add(1, std::memory_order_relaxed);
    if (next->header->type == PERF_RECORD_THROTTLE) {
      throttled_.fetch_add(1, std::memory_order_relaxed);
    } else if (next->header->type == PERF_RECORD_LOST ||
               next->header->type == PERF_RECORD_LOST_SAMPLES) {
      const absl::StatusOr<Record> record = DecodeRecord(next->header, events_[next->event].format);
      if (record.ok()) CountLost(std::get<LostRecord>(*record));
    }
  }
  return ReadResult::kRecord;
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
  order_->ReleaseAll();
  for (pollfd& entry : poll_) entry.revents = 0;
  const int ready = kernel_.Poll(poll_, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  if (ready <= 0) return;
  const size_t signal = rings_.size();
  if (poll_[signal].revents != 0) {
    uint64_t count;
    kernel_.ReadCounts(signal_fd_, std::span(&count, 1));
  }
  if (pid_fd_ >= 0 && (poll_.back().revents & POLLIN) != 0) {
    target_gone_ = true;
    poll_.back().fd = -1;  // readable for good: it must not keep waking us
  }
  // A ring whose thread has ended hangs up for good; it is still read in every round.
  for (size_t i = 0; i < rings_.size(); ++i) {
    if ((poll_[i].revents & (POLLHUP | POLLERR)) != 0) poll_[i].fd = -1;
  }
}

void EventSet::Interrupt() { kernel_.Signal(signal_fd_); }

void EventSet::Finish() {
  if (finished_) return;
  finished_ = true;
  // Samples first, so that the side band covers all of them. Disabling returns when the event has
  // stopped on its CPU, so afterwards the rings are final.
  for (const bool sampling : {true, false}) {
    for (const OpenEvent& event : open_) {
      if (event.sampling == sampling) kernel_.Control(event.fd, PERF_EVENT_IOC_DISABLE, 0);
    }
  }
  ReadCounts();
  order_->Drain();
}

void EventSet::ReadCounts() {
  const bool has_lost = (events_[kSampling].attr.read_format & PERF_FORMAT_LOST) != 0;
  uint64_t count = 0;
  uint64_t lost_samples = 0;
  uint64_t lost_other = 0;
  for (const OpenEvent& event : open_) {
    uint64_t values[5] = {};  // value, time enabled, time running, id, lost
    if (kernel_.ReadCounts(event.fd, values) < 0) continue;
    if (event.sampling) count += values[0];
    if (has_lost) (event.sampling ? lost_samples : lost_other) += values[4];
  }
  kernel_count_ = count;
  if (has_lost) {
    lost_is_exact_ = true;
    lost_samples_ = lost_samples + lost_in_pmu_;
    lost_other_ = lost_other;
  }
}

SourceStats EventSet::stats() const {
  return {.samples = samples_,
          .other_records = other_records_,
          .lost_samples = lost_samples_,
          .lost_other = lost_other_,
          .late_records = late_,
          .undecodable = undecodable_,
          .throttled = throttled_,
          .kernel_count = kernel_count_};
}

}  // namespace lbrd::pmu
