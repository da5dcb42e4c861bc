#include "pmu/cpu_target.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pmu/proc_scan.h"

namespace lbrd::pmu {

absl::StatusOr<int> ResolveCgroup(Kernel& kernel, const std::string& path) {
  const std::string below = path.substr(std::min(path.size(), path.find_first_not_of('/')));
  std::vector<std::string> tried;
  if (!path.empty() && path[0] == '/') tried.push_back(path);
  for (const char* root :
       {"/sys/fs/cgroup/", "/sys/fs/cgroup/perf_event/", "/sys/fs/cgroup/unified/"}) {
    tried.push_back(absl::StrCat(root, below));
  }
  for (const std::string& folder : tried) {
    const int fd = kernel.OpenFolder(folder);
    if (fd >= 0) return fd;
    if (fd != -ENOENT && fd != -ENOTDIR) {
      return absl::ErrnoToStatus(-fd, absl::StrCat("cannot open the cgroup ", folder));
    }
  }
  return absl::NotFoundError(
      absl::StrCat("no cgroup '", path, "': looked for ", absl::StrJoin(tried, ", ")));
}

CpuTarget::~CpuTarget() {
  if (cgroup_fd_ >= 0) installer_.kernel().Close(cgroup_fd_);
}

bool CpuTarget::Wanted(int32_t cpu) const {
  return wanted_.empty() || std::binary_search(wanted_.begin(), wanted_.end(), cpu);
}

absl::Status CpuTarget::Open() {
  Kernel& kernel = installer_.kernel();
  const absl::StatusOr<std::vector<int32_t>> online = OnlineCpus(kernel);
  if (!online.ok()) return online.status();
  const absl::StatusOr<std::vector<int32_t>> present = PresentCpus(kernel);
  if (!present.ok()) return present.status();
  for (const int32_t cpu : wanted_) {
    if (std::binary_search(present->begin(), present->end(), cpu)) continue;
    return absl::InvalidArgumentError(absl::StrCat("there is no CPU ", cpu, "; this machine has ",
                                                   present->size(), ", from ", present->front(),
                                                   " to ", present->back()));
  }
  if (!cgroup_.empty()) {
    const absl::StatusOr<int> fd = ResolveCgroup(kernel, cgroup_);
    if (!fd.ok()) return fd.status();
    cgroup_fd_ = *fd;
  }
  for (const int32_t cpu : *present) {
    if (!Wanted(cpu)) continue;
    if (!std::binary_search(online->begin(), online->end(), cpu)) {
      away_[cpu] = {};
      continue;
    }
    const absl::Status installed = Install(cpu);
    if (absl::IsUnavailable(installed)) {
      away_[cpu] = {};  // went offline since the list was read
    } else if (absl::IsUnimplemented(installed) && installer_.core_types().hybrid() &&
               installer_.last_error() == 0) {
      not_counted_.push_back(cpu);
    } else if (!installed.ok()) {
      return installed;
    }
  }
  if (!places_.empty()) return absl::OkStatus();
  if (!not_counted_.empty()) {
    return absl::UnimplementedError("none of these CPUs counts the event; see lscpu -e");
  }
  return absl::NotFoundError("nothing to sample: no CPU is online");
}

absl::Status CpuTarget::Install(int32_t cpu) {
  EventPlace sampling{.pid = -1, .cpu = cpu};
  if (cgroup_fd_ >= 0) {
    sampling.pid = cgroup_fd_;
    sampling.flags = PERF_FLAG_PID_CGROUP;
  }
  // The side band is never limited to the cgroup: what moves into it brings its past along.
  absl::StatusOr<Installed> installed = installer_.Install(
      sampling, {.pid = -1, .cpu = cpu}, {.bytes = ring_bytes_}, absl::StrCat("CPU ", cpu));
  if (!installed.ok()) {
    if (cgroup_fd_ >= 0 &&
        (installer_.last_error() == EBADF || installer_.last_error() == EINVAL)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot count in the cgroup '", cgroup_, "': ", strerror(installer_.last_error()),
          "; it must be a folder of the unified hierarchy (cgroup v2) or of v1's perf_event, and "
          "the kernel must have CONFIG_CGROUP_PERF"));
    }
    return installed.status();
  }
  places_[cpu] = {.installed = *std::move(installed), .enabled_at = installer_.kernel().Now()};
  return absl::OkStatus();
}

void CpuTarget::Started(uint64_t now) {
  last_look_ = now;
  next_liveness_ = now + kLivenessNs;
  for (auto& [cpu, place] : places_) place.enabled_at = now;
  // Who asked for a CPU by name is told that it is offline. Of all CPUs, those that are offline all
  // the time have nothing to tell.
  for (auto& [cpu, away] : away_) {
    if (wanted_.empty()) continue;
    away.gap = true;
    gaps_.Begin(cpu, now);
  }
}

void CpuTarget::Retire(int32_t cpu) {
  const auto found = places_.find(cpu);
  Place& place = found->second;
  // When it stopped is known by how long it was enabled: better than when that was noticed.
  place.installed.Release();
  const uint64_t from = place.enabled_at + place.installed.side_band->Read().time_enabled_ns;
  installer_.rings().Retire(place.installed.ring);
  places_.erase(found);
  away_[cpu] = {.gap = true};
  gaps_.Begin(cpu, from);
}

bool CpuTarget::Dead(Place* place) {
  const uint64_t now = installer_.kernel().Now();
  const uint64_t enabled_ns = place->installed.side_band->Read().time_enabled_ns;
  const bool dead = place->looked && enabled_ns == place->last_enabled_ns;
  // That it has gone on since the last look proves that it was alive then, not that it is now.
  if (place->looked && !dead) place->enabled_at = place->last_enabled_at;
  place->looked = true;
  place->last_enabled_ns = enabled_ns;
  place->last_enabled_at = now - enabled_ns;  // may wrap: what is added to it wraps back
  return dead;
}

void CpuTarget::Finishing() {
  if (last_look_ == 0) return;
  Kernel& kernel = installer_.kernel();
  const absl::StatusOr<std::vector<int32_t>> online = OnlineCpus(kernel);
  const uint64_t looked_at = kernel.Now();
  for (auto& [cpu, place] : places_) Dead(&place);
  std::vector<int32_t> gone;
  for (auto& [cpu, place] : places_) {
    const bool offline = online.ok() && !std::binary_search(online->begin(), online->end(), cpu);
    // Standing still says something only where the clock does not.
    const bool time_went_on = kernel.Now() > looked_at;
    if (offline || (time_went_on && Dead(&place))) gone.push_back(cpu);
  }
  for (const int32_t cpu : gone) Retire(cpu);
  gaps_.Stop(kernel.Now());
}

void CpuTarget::Want(std::vector<int32_t> cpus) {
  wanted_ = std::move(cpus);
  settled_ = false;
  watch_.Hasten();
}

void CpuTarget::Settle(uint64_t now, const std::vector<int32_t>& online) {
  settled_ = true;
  for (auto place = places_.begin(); place != places_.end();) {
    if (Wanted(place->first)) {
      ++place;
      continue;
    }
    // Not missed: no gap.
    place->second.installed.Release();
    installer_.rings().Retire(place->second.installed.ring);
    place = places_.erase(place);
  }
  for (auto away = away_.begin(); away != away_.end();) {
    if (Wanted(away->first)) {
      ++away;
      continue;
    }
    gaps_.End(away->first, now);
    away = away_.erase(away);
  }
  for (const int32_t cpu : wanted_.empty() ? online : wanted_) {
    if (places_.count(cpu) != 0 || away_.count(cpu) != 0) continue;
    if (std::binary_search(not_counted_.begin(), not_counted_.end(), cpu)) continue;
    if (!std::binary_search(online.begin(), online.end(), cpu) || !Install(cpu).ok()) {
      away_[cpu] = {.gap = true};
      gaps_.Begin(cpu, now);
    }
  }
}

void CpuTarget::Follow(uint64_t now, RecordWriter* made) {
  if (last_look_ == 0 || !watch_.Due(now)) return;
  const absl::StatusOr<std::vector<int32_t>> online = OnlineCpus(installer_.kernel());
  if (!online.ok()) return;  // looked for again in a moment
  if (!settled_) Settle(now, *online);
  const bool look_closely = now >= next_liveness_;
  if (look_closely) next_liveness_ = now + kLivenessNs;
  std::vector<int32_t> gone;
  for (auto& [cpu, place] : places_) {
    if (!std::binary_search(online->begin(), online->end(), cpu) ||
        (look_closely && Dead(&place))) {
      gone.push_back(cpu);
    }
  }
  for (const int32_t cpu : gone) Retire(cpu);
  for (const int32_t cpu : *online) {
    if (!Wanted(cpu) || places_.count(cpu) != 0) continue;
    if (std::binary_search(not_counted_.begin(), not_counted_.end(), cpu)) continue;
    // Offline, or not even in the machine, when it was last looked for.
    Away& away = away_[cpu];
    if (!std::exchange(away.gap, true)) gaps_.Begin(cpu, last_look_);
    const absl::Status installed = Install(cpu);
    if (installed.ok()) {
      gaps_.End(cpu, installer_.kernel().Now());
      away_.erase(cpu);
      scan_due_ = true;
    } else if (!absl::IsUnavailable(installed) && !std::exchange(away.told, true)) {
      Note(cpu, installed.message());
    }
  }
  last_look_ = now;
  if (scan_due_ && now >= next_scan_) {
    // What cannot be listed leaves names missing, which frames without them say.
    ScanAllProcesses(installer_.kernel(), made).IgnoreError();
    scan_due_ = false;
    next_scan_ = now + kScanNs;
  }
}

void CpuTarget::Note(int32_t cpu, absl::string_view why) {
  absl::MutexLock lock(&mutex_);
  if (notes_.size() < kMaxGaps) {
    notes_.push_back(absl::StrCat("CPU ", cpu, " came online and is not sampled: ", why));
  }
}

std::vector<std::string> CpuTarget::notes() const {
  std::vector<std::string> notes;
  {
    absl::MutexLock lock(&mutex_);
    notes = notes_;
  }
  if (!not_counted_.empty()) {
    notes.push_back(absl::StrCat("CPUs ", absl::StrJoin(not_counted_, ","),
                                 " are of a kind that does not count this event"));
  }
  return notes;
}

}  // namespace lbrd::pmu
