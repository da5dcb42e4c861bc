// A session's samples of one event over a stretch of time, aggregated: what the history stores at
// once, or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/process_origin.h"
#include "daemon/sample.h"

namespace lbrd::daemon {

struct HistoryEntry {
  std::shared_ptr<const StackInfo> stack;
  std::shared_ptr<const ThreadInfo> thread;
  std::shared_ptr<const ProcessOrigin> process;  // null: nothing is known of it
  uint64_t samples = 0;
  uint64_t weight = 0;
};

struct HistoryBucket {
  std::string session;
  uint32_t session_owner = 0;  // uid
  std::string event;
  std::string unit;      // of weights
  int64_t begin_ns = 0;  // Unix time
  int64_t end_ns = 0;    // exclusive
  uint64_t dropped = 0;  // samples of this stretch that were lost before they came here
  // Empty: the session sampled, and nothing ran that it samples.
  std::vector<HistoryEntry> entries;

  uint64_t samples() const {
    uint64_t sum = 0;
    for (const HistoryEntry& entry : entries) sum += entry.samples;
    return sum;
  }
  // In memory, with what an entry keeps alive: an estimate.
  size_t bytes() const {
    size_t sum = sizeof(*this);
    for (const HistoryEntry& entry : entries) {
      sum += sizeof(entry) + sizeof(StackInfo) + 16 * entry.stack->frames.size();
    }
    return sum;
  }
};

// Samples that never came to be stored.
struct HistoryLoss {
  std::string session;
  int64_t begin_ns = 0;  // Unix time
  int64_t end_ns = 0;
  uint64_t samples = 0;
  std::string why;
};

}  // namespace lbrd::daemon
