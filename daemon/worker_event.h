// How an event's samples are read.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/record_queue.h"
#include "pmu/record.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

// Index as in RecordSource::events().
struct WorkerEvent {
  pmu::RecordFormat format;
  unwind::ResolveOptions resolve;
  bool branches = false;      // the branch stack is a history: it goes with the sample
  uint64_t fixed_period = 0;  // the weight of samples that carry no period; 0: 1
  bool monotonic = true;      // times are of CLOCK_MONOTONIC
};

// Of a record's event, which may be kMadeHere.
inline const pmu::RecordFormat& FormatOf(const std::vector<WorkerEvent>& events, uint32_t event) {
  static constexpr pmu::RecordFormat kMadeHereFormat{};
  return event == kMadeHere ? kMadeHereFormat : events[event].format;
}

}  // namespace lbrd::daemon
