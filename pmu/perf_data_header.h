// What stands in a perf.data file besides its records: header, attrs, ids, features.
//
// Thread rules: pure functions of their arguments and of the input's content.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "pmu/perf_data.h"
#include "pmu/perf_data_events.h"
#include "pmu/perf_data_input.h"

namespace lbrd::pmu {

// Where the records stand.
struct PerfDataRange {
  uint64_t begin = 0;
  // Of file mode; in pipe mode, and where perf was killed before it could say, records go on for as
  // long as there is input.
  uint64_t end = UINT64_MAX;
  bool interrupted = false;  // perf was killed: the last record may be cut off
};

// Reads the header at the front of `input` and leaves `input` at the first record. In pipe mode
// that is all; otherwise fills in what the file says about events and machine (events are not
// finished).
absl::StatusOr<PerfDataRange> ReadPerfDataHeader(PerfDataInput& input, PerfDataInfo* info,
                                                 PerfDataEvents* events);

// Says something once; what a corrupt recording could say without end is cut off.
void AddNote(std::string note, PerfDataInfo* info);
void NoteMalformedFeature(uint32_t feature, PerfDataInfo* info);

}  // namespace lbrd::pmu
