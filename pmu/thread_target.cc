#include "pmu/thread_target.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pmu/cpu_watch.h"
#include "pmu/proc_scan.h"

namespace lbrd::pmu {
namespace {

// The processes that a thread has forked and that live; empty where the kernel does not say.
std::vector<int32_t> ChildrenOf(Kernel& kernel, int32_t pid, int32_t tid) {
  std::vector<int32_t> children;
  const absl::StatusOr<std::string> text =
      kernel.ReadFile(absl::StrCat("/proc/", pid, "/task/", tid, "/children"), 1 << 20);
  if (!text.ok()) return children;
  for (const absl::string_view word : absl::StrSplit(*text, ' ', absl::SkipWhitespace())) {
    int32_t child;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(word), &child)) children.push_back(child);
  }
  return children;
}

}  // namespace

ThreadTarget::ThreadTarget(Installer* installer, const EventTarget& target, uint64_t ring_bytes,
                           std::string why)
    : installer_(*installer),
      first_(target.tid.has_value() ? *target.tid : *target.pid),
      follow_(!target.tid.has_value()),
      enable_on_exec_(target.enable_on_exec),
      ring_bytes_(follow_ ? std::min(ring_bytes, kThreadRingBytes) : ring_bytes),
      why_(std::move(why)),
      ownership_of_(target.ownership_of) {}

uint64_t ThreadTarget::Bound() const {
  return std::min(kMaxThreads, installer_.kernel().DescriptorLimit() / 4);
}

absl::Status ThreadTarget::Open() {
  const absl::StatusOr<std::vector<int32_t>> cpus = OnlineCpus(installer_.kernel());
  if (!cpus.ok()) return cpus.status();
  cpus_ = cpus->size();
  if (!follow_) {
    const absl::StatusOr<bool> taken = TakeUp(first_);
    if (!taken.ok()) return taken.status();
    if (!*taken) return absl::NotFoundError(absl::StrCat("no thread ", first_));
    return absl::OkStatus();
  }
  known_processes_.insert(first_);
  bool news = true;
  for (int pass = 0; news; ++pass) {
    if (pass == kMaxEnumerations) {
      return absl::UnavailableError(absl::StrCat(
          "process ", first_, " starts threads faster than they can be followed: after ",
          kMaxEnumerations, " lists of its threads there were new ones; record -a instead"));
    }
    news = false;
    if (absl::Status listed = TakeUpProcess(first_, &news); !listed.ok()) {
      if (absl::IsNotFound(listed) && pass > 0) break;
      return listed;
    }
  }
  if (slots_.empty()) return absl::NotFoundError("nothing to sample: the process has ended");
  return absl::OkStatus();
}

absl::StatusOr<bool> ThreadTarget::TakeUp(int32_t tid) {
  if (slots_.size() >= Bound()) {
    if (without_room_.insert(tid).second) ++refused_;
    return false;
  }
  const EventPlace at{.pid = tid, .cpu = -1};
  absl::StatusOr<Installed> installed =
      installer_.Install(at, at, {.bytes = ring_bytes_}, absl::StrCat("thread ", tid));
  if (absl::IsNotFound(installed.status())) return false;
  if (!installed.ok()) return installed.status();
  // Asked once its events are open: if it executes another's program later, the kernel takes them.
  if (ownership_of_ && ownership_of_(tid) == Ownership::kOther) {
    not_ours_.insert(tid);
    installed->Release();
    installer_.rings().Retire(installed->ring);
    return false;
  }
  // Its forks must be told from now on.
  if (!enable_on_exec_) {
    if (absl::Status enabled = installed->side_band->Enable(); !enabled.ok()) return enabled;
  }
  slots_.emplace(tid, Slot{*std::move(installed), installer_.kernel().Now()});
  ++taken_up_;
  return true;
}

absl::Status ThreadTarget::TakeUpProcess(int32_t pid, bool* news) {
  Kernel& kernel = installer_.kernel();
  const absl::StatusOr<std::vector<int32_t>> tids =
      kernel.ListNumbers(absl::StrCat("/proc/", pid, "/task"));
  if (!tids.ok()) return absl::NotFoundError(absl::StrCat("no process ", pid));
  for (const int32_t tid : *tids) {
    if (slots_.count(tid) != 0) continue;
    const absl::StatusOr<bool> taken = TakeUp(tid);
    if (!taken.ok()) return taken.status();
    *news |= *taken;
    // What a thread forked before the session began is not its business; what it forked between its
    // birth and its events is.
    if (!started_) continue;
    for (const int32_t child : ChildrenOf(kernel, pid, tid)) {
      if (known_processes_.insert(child).second) to_list_[child].is_new = true;
    }
  }
  return absl::OkStatus();
}

void ThreadTarget::Started(uint64_t) { started_ = true; }

TargetEvents::Verdict ThreadTarget::See(const RawRecord& record, const Ring*) {
  const uint32_t type = record.header->type;
  if (type == PERF_RECORD_SAMPLE) {
    return not_ours_.count(record.who.tid) != 0 ? Verdict::kOtherUser : Verdict::kKeep;
  }
  if (type == PERF_RECORD_COMM && enable_on_exec_ &&
      (record.header->misc & PERF_RECORD_MISC_COMM_EXEC) != 0 && record.who.pid == first_) {
    // The kernel enabled what was open; what is opened from now on must be enabled as well.
    installer_.sampling_root()->Enable().IgnoreError();
  }
  if (type != PERF_RECORD_FORK && type != PERF_RECORD_EXIT) return Verdict::kKeep;
  const absl::StatusOr<Record> decoded =
      DecodeRecord(record.header, installer_.events()[kSideBandEvent].format);
  if (!decoded.ok()) return Verdict::kKeep;
  const auto& task = std::get<TaskRecord>(*decoded);
  if (task.exit) {
    // A number may have been given to another thread meanwhile.
    const auto slot = slots_.find(task.tid);
    if (slot != slots_.end() && record.who.time >= slot->second.taken_up_at) {
      ended_.push_back(task.tid);
    }
    if (task.tid == task.pid) known_processes_.erase(task.pid);
    without_room_.erase(task.tid);
    not_ours_.erase(task.tid);
    if (!follow_ && task.tid == first_) gone_ = true;
  } else if (follow_) {
    ToList& to_list = to_list_[task.pid];
    to_list.is_new |= known_processes_.insert(task.pid).second;
    to_list.born.push_back(task.tid);
  }
  return Verdict::kKeep;
}

void ThreadTarget::HungUp(Ring* ring) {
  for (const auto& [tid, slot] : slots_) {
    if (slot.installed.ring != ring) continue;
    ended_.push_back(tid);
    if (!follow_ && tid == first_) gone_ = true;
  }
}

void ThreadTarget::LetGo(int32_t tid) {
  const auto found = slots_.find(tid);
  if (found == slots_.end()) return;
  found->second.installed.Release();
  installer_.rings().Retire(found->second.installed.ring);
  slots_.erase(found);
}

void ThreadTarget::Follow(uint64_t, RecordWriter* made) {
  for (const int32_t tid : std::exchange(ended_, {})) LetGo(tid);
  if (!follow_) return;
  for (int lists = 0; !to_list_.empty() && lists < kMaxEnumerations; ++lists) {
    const int32_t pid = to_list_.begin()->first;
    const ToList to_list = std::move(to_list_.begin()->second);
    to_list_.erase(to_list_.begin());
    bool news = false;
    const absl::Status listed = TakeUpProcess(pid, &news);
    for (const int32_t tid : to_list.born) {
      if (slots_.count(tid) == 0 && without_room_.count(tid) == 0) ++missed_;
    }
    if (absl::IsNotFound(listed)) {
      known_processes_.erase(pid);
      continue;
    }
    if (!listed.ok()) {
      ++refused_;
      continue;
    }
    // Mapped and named before its side-band event was there.
    if (to_list.is_new) ScanProcess(installer_.kernel(), pid, made).IgnoreError();
    if (news) to_list_.try_emplace(pid);  // until a list holds no stranger
  }
}

std::vector<std::string> ThreadTarget::notes() const {
  std::vector<std::string> notes;
  if (!follow_) return notes;
  notes.push_back(absl::StrCat(
      why_,
      "; each thread has one event of its own instead, opened when its birth is told, with a "
      "ring of ",
      ring_bytes_ >> 10, " KiB, for up to ", Bound(), " threads at a time"));
  if (const uint64_t missed = missed_; missed != 0) {
    notes.push_back(absl::StrCat(missed, " threads ended before they could be followed"));
  }
  if (const uint64_t refused = refused_; refused != 0) {
    notes.push_back(absl::StrCat(refused, " threads were not followed: no room for more events"));
  }
  return notes;
}

}  // namespace lbrd::pmu
