#include "daemon/session_filter.h"

#include <algorithm>
#include <utility>

namespace lbrd::daemon {

SessionFilter::SessionFilter(FilterSpec spec) : spec_(std::move(spec)) {
  if (spec_.process.has_value()) tree_.insert(*spec_.process);
}

LeftOut SessionFilter::Judge(const pmu::SampleId& who, std::optional<uint32_t> uid) const {
  if (!spec_.cpus.empty() &&
      !std::binary_search(spec_.cpus.begin(), spec_.cpus.end(), static_cast<int32_t>(who.cpu))) {
    return LeftOut::kOtherCpu;
  }
  if (spec_.thread.has_value() && who.tid != *spec_.thread) return LeftOut::kOtherThread;
  if (spec_.process.has_value() && !tree_.contains(who.pid)) return LeftOut::kOtherProcess;
  if (spec_.uid.has_value() && uid != spec_.uid) return LeftOut::kOtherUser;
  return LeftOut::kNot;
}

void SessionFilter::Forked(int32_t pid, int32_t parent_pid) {
  if (!spec_.process.has_value() || pid == parent_pid) return;
  if (tree_.contains(parent_pid)) {
    tree_.insert(pid);
  } else {
    tree_.erase(pid);
  }
}

}  // namespace lbrd::daemon
