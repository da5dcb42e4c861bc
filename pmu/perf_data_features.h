// The header features of a recording: what it says about its machine.
//
// Thread rules: pure functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pmu/perf_data.h"
#include "pmu/perf_data_events.h"

namespace lbrd::pmu {

// Whether ReadFeature() has a use for it.
bool WantsFeature(uint32_t feature);

// Takes over what a feature says; `bytes` are its section, or the payload of
// PERF_RECORD_HEADER_FEATURE. false: malformed; what could be read is kept.
bool ReadFeature(uint32_t feature, std::span<const std::byte> bytes, PerfDataInfo* info,
                 PerfDataEvents* events);

// One entry of the build ID table, which is also the record PERF_RECORD_HEADER_BUILD_ID, as `misc`
// of its header and the bytes behind the header. false: malformed.
bool ReadBuildId(uint16_t misc, std::span<const std::byte> bytes, PerfDataInfo* info);

}  // namespace lbrd::pmu
