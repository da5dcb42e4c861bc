// Which worker owns a process.
//
// Everything of one group leader goes to one worker, so that an address space has one owner and
// needs no lock. A forked child starts as a copy of its parent's address space, which only the
// parent's worker has: it stays there until it executes a program and has a space of its own; then,
// and otherwise, the hash of its pid decides.
//
// Memory: 16 bytes per forked and not executed pid, at most pid_max of them.
// Thread rules: one owner (the reader).
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "pmu/record.h"

namespace lbrd::daemon {

class Router {
 public:
  explicit Router(size_t workers) : workers_(workers) {}

  struct Route {
    size_t worker;
    // The process moves here; the worker that had it until now must forget it.
    bool moved = false;
    size_t moved_from = 0;
  };
  // `pid`: of the record's subject.
  Route RouteRecord(const perf_event_header* header, int32_t pid);

 private:
  size_t WorkerOf(int32_t pid) const;
  size_t HashWorker(int32_t pid) const;

  const size_t workers_;
  absl::flat_hash_map<int32_t, size_t> with_parent_;
};

}  // namespace lbrd::daemon
