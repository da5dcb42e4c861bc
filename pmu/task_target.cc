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
constexpr int kQuickEnumerations = 2;
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
      if (settled) generations_.emplace_back();
      settled = false;
      slots_[tid] = {
          .generation = generations_.size() - 1, .opened = true, .complete_at = UINT64_MAX};
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
  if (generation_of_.empty()) {
    return absl::NotFoundError("nothing to sample: the process has ended");
  }
  return absl::OkStatus();
}

absl::Status TaskTarget::OpenThread(int32_t tid) {
  const std::string where = absl::StrCat("thread ", tid);
  Generation& places = generations_.back();
  for (const int32_t cpu : cpus_) {
    const auto place = places.find(cpu);
    const EventPlace at{.pid = tid, .cpu = cpu};
    absl::StatusOr<Installed> installed = installer_.Install(
        at, at, {.bytes = ring_bytes_, .share = place == places.end() ? nullptr : &place->second},
        place == places.end() ? absl::StrCat(where, " on CPU ", cpu) : where);
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
    generation_of_[installed->ring] = generations_.size() - 1;
    if (place == places.end()) places[cpu] = *std::move(installed);
  }
  return absl::OkStatus();
}

void TaskTarget::Abandon() {
  for (const auto& [ring, generation] : generation_of_) {
    installer_.rings().Retire(const_cast<Ring*>(ring));
  }
  generation_of_.clear();
  generations_.clear();
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
    Slot inherited = parent->second;
    inherited.opened = false;
    if (fork.who.time < inherited.complete_at + kSurelyInheritedNs) return;
    slots_.try_emplace(fork.tid, inherited);
  });
}

TargetEvents::Verdict TaskTarget::See(const RawRecord& record, const Ring* ring) {
  if (generations_.size() < 2) return Verdict::kKeep;
  if (record.header->type == PERF_RECORD_SAMPLE) {
    const auto slot = slots_.find(record.who.tid);
    const auto by = generation_of_.find(ring);
    if (slot == slots_.end() || by == generation_of_.end()) return Verdict::kKeep;
    return by->second == slot->second.generation ? Verdict::kKeep : Verdict::kDuplicate;
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
    Slot inherited = parent->second;
    inherited.opened = false;
    const auto [own, is_new] = slots_.try_emplace(task.tid, inherited);
    // The birth of a thread that was opened since; else another thread of that number, whose
    // predecessor's end was lost.
    const bool opened_since = own->second.opened && record.who.time <= own->second.complete_at;
    if (!is_new && !opened_since) own->second = inherited;
  }
  return Verdict::kKeep;
}

}  // namespace lbrd::pmu
