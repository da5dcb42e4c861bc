#include "pmu/task_target.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/cpu_watch.h"

namespace lbrd::pmu {
namespace {

// Lists that come at once; later ones wait, so that births have time to become certain.
constexpr int kQuickEnumerations = 8;
constexpr int kEnumerationPauseMs = 10;

}  // namespace

absl::Status TaskTarget::Open() {
  Kernel& kernel = installer_.kernel();
  // A thread's events can be opened on CPUs that are offline, and count there once they are not.
  absl::StatusOr<std::vector<int32_t>> cpus = PresentCpus(kernel);
  if (!cpus.ok()) return cpus.status();
  cpus_ = *std::move(cpus);
  const std::string folder = absl::StrCat("/proc/", pid_, "/task");
  bool settled = false;
  for (int pass = 0; pass < kMaxEnumerations && !settled; ++pass) {
    if (pass >= kQuickEnumerations) kernel.Poll({}, kEnumerationPauseMs);
    const absl::StatusOr<std::vector<int32_t>> tids = kernel.ListNumbers(folder);
    if (!tids.ok()) {
      if (pass > 0) break;  // it ended meanwhile; what it wrote can be read
      return absl::NotFoundError(
          absl::StrCat("no process ", pid_, "; for a single thread say -t ", pid_));
    }
    threads_found_ = std::max(threads_found_, tids->size());
    // Two events per thread and CPU; half of what there may be is for everybody else.
    if (tids->size() * cpus_.size() * 2 > kernel.DescriptorLimit() / 2) {
      needs_fewer_descriptors_ = true;
      return absl::ResourceExhaustedError("too many threads for an event on each CPU");
    }
    TakeBirths();
    settled = true;
    for (const int32_t tid : *tids) {
      if (slots_.count(tid) != 0) continue;
      settled = false;
      if (pass > 0) may_duplicate_ = true;
      slots_[tid] = {.events_of = tid, .complete_at = UINT64_MAX};
      const absl::Status opened = OpenThread(tid);
      if (absl::IsNotFound(opened)) continue;  // it ended: nothing of it is to be had
      if (!opened.ok()) {
        needs_fewer_descriptors_ =
            installer_.last_error() == EMFILE || installer_.last_error() == ENFILE;
        return opened;
      }
      slots_[tid].complete_at = kernel.Now();
    }
    if (pass + 1 == kMaxEnumerations && !settled) {
      return absl::UnavailableError(absl::StrCat(
          "process ", pid_, " starts threads faster than they can be followed: after ",
          kMaxEnumerations, " lists of its threads there were new ones; record -a instead"));
    }
  }
  if (places_.empty()) {
    return absl::NotFoundError("nothing to sample: the process has ended");
  }
  if (may_duplicate_) {
    for (const auto& [tid, event] : opened_) {
      const Event::Use use(*event);
      uint64_t words[5] = {};  // value, time enabled, time running, id
      if (use.fd() >= 0 && kernel.ReadCounts(use.fd(), words) >= 32) thread_of_id_[words[3]] = tid;
    }
  }
  opened_.clear();
  return absl::OkStatus();
}

absl::Status TaskTarget::OpenThread(int32_t tid) {
  const std::string where = absl::StrCat("thread ", tid);
  for (const int32_t cpu : cpus_) {
    const auto place = places_.find(cpu);
    const EventPlace at{.pid = tid, .cpu = cpu};
    absl::StatusOr<Installed> installed = installer_.Install(
        at, at, {.bytes = ring_bytes_, .share = place == places_.end() ? nullptr : &place->second},
        place == places_.end() ? absl::StrCat(where, " on CPU ", cpu) : where);
    if (absl::IsUnavailable(installed.status())) continue;
    if (absl::IsUnimplemented(installed.status()) && installer_.core_types().hybrid() &&
        installer_.last_error() == 0) {
      continue;  // another kind of core
    }
    if (!installed.ok()) return installed.status();
    // Its forks must be told from the moment that they inherit.
    if (!enable_on_exec_) {
      if (absl::Status enabled = installed->side_band->Enable(); !enabled.ok()) return enabled;
    }
    for (const std::shared_ptr<Event>& event : installed->sampling) {
      opened_.emplace_back(tid, event);
    }
    if (place == places_.end()) places_[cpu] = *std::move(installed);
  }
  return absl::OkStatus();
}

void TaskTarget::Abandon() {
  opened_.clear();
  for (auto& [cpu, installed] : places_) installer_.rings().Retire(installed.ring);
  places_.clear();
}

void TaskTarget::TakeBirths() {
  const RecordFormat& format = installer_.events()[kSideBandEvent].format;
  installer_.rings().ForEachWaiting([&](const perf_event_header* header) {
    if (header->type != PERF_RECORD_FORK) return;
    const absl::StatusOr<Record> record = DecodeRecord(header, format);
    if (!record.ok()) return;
    const auto& fork = std::get<TaskRecord>(*record);
    const auto parent = slots_.find(fork.ptid);
    if (parent == slots_.end() || parent->second.complete_at == UINT64_MAX) return;
    const Slot inherited = parent->second;
    if (fork.who.time < inherited.complete_at + kSurelyInheritedNs) return;
    slots_.try_emplace(fork.tid, inherited);
  });
}

TargetEvents::Verdict TaskTarget::See(const RawRecord& record) {
  if (!may_duplicate_) return Verdict::kKeep;
  if (record.header->type == PERF_RECORD_SAMPLE) {
    const auto slot = slots_.find(record.who.tid);
    if (slot == slots_.end()) return Verdict::kKeep;
    const auto by = thread_of_id_.find(record.who.id);
    if (by == thread_of_id_.end() || by->second == slot->second.events_of) return Verdict::kKeep;
    return Verdict::kDuplicate;
  }
  if (record.header->type != PERF_RECORD_FORK && record.header->type != PERF_RECORD_EXIT) {
    return Verdict::kKeep;
  }
  const absl::StatusOr<Record> decoded =
      DecodeRecord(record.header, installer_.events()[kSideBandEvent].format);
  if (!decoded.ok()) return Verdict::kKeep;
  const auto& task = std::get<TaskRecord>(*decoded);
  if (task.exit) {
    slots_.erase(task.tid);
  } else if (const auto parent = slots_.find(task.ptid); parent != slots_.end()) {
    const Slot inherited = parent->second;
    const auto [own, is_new] = slots_.try_emplace(task.tid, inherited);
    // The birth of a thread that was opened since; else another thread of that number, whose
    // predecessor's end was lost.
    const bool opened_since =
        own->second.events_of == task.tid && record.who.time <= own->second.complete_at;
    if (!is_new && !opened_since) own->second = inherited;
  }
  return Verdict::kKeep;
}

}  // namespace lbrd::pmu
