#include "daemon/router.h"

#include <cstring>

namespace lbrd::daemon {

size_t Router::HashWorker(int32_t pid) const {
  // Fibonacci hashing: neighbouring pids spread well.
  const uint32_t hash = static_cast<uint32_t>(pid) * 2654435769u;
  return static_cast<size_t>((uint64_t{hash} * workers_) >> 32);
}

size_t Router::WorkerOf(int32_t pid) const {
  const auto found = with_parent_.find(pid);
  return found != with_parent_.end() ? found->second : HashWorker(pid);
}

Router::Route Router::RouteRecord(const perf_event_header* header, int32_t pid) {
  if (header->type == PERF_RECORD_FORK && header->size >= sizeof(*header) + 2 * sizeof(int32_t)) {
    int32_t pids[2];  // the child's and the parent's group leader
    std::memcpy(pids, header + 1, sizeof(pids));
    if (pids[0] != pids[1]) {
      const size_t worker = WorkerOf(pids[1]);
      if (worker == HashWorker(pids[0])) {
        with_parent_.erase(pids[0]);
      } else {
        with_parent_[pids[0]] = worker;
      }
      return {.worker = worker};
    }
  }
  if (header->type == PERF_RECORD_COMM && (header->misc & PERF_RECORD_MISC_COMM_EXEC) != 0) {
    const auto found = with_parent_.find(pid);
    if (found != with_parent_.end()) {
      const Route route{.worker = HashWorker(pid), .moved = true, .moved_from = found->second};
      with_parent_.erase(found);
      return route;
    }
  }
  return {.worker = WorkerOf(pid)};
}

}  // namespace lbrd::daemon
