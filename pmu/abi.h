// The perf ABI that Debian 12's <linux/perf_event.h> does not have yet.
//
// Each constant names the kernel it came with. Nothing here is ours to choose.
#pragma once

#include <linux/perf_event.h>

#include <cstdint>

namespace lbrd::pmu {

// Linux 6.19: user call chains resolved on the way back to user mode. Both are bits of the attr's
// flag word (bit 0 is `disabled`); with kDeferCallchain alone nobody receives the answer.
inline constexpr uint64_t kAttrDeferCallchain = uint64_t{1} << 38;
inline constexpr uint64_t kAttrDeferOutput = uint64_t{1} << 39;
inline constexpr uint32_t kRecordCallchainDeferred = 22;
// In a call chain: the next (and only) entry is the cookie of the deferred user part.
inline constexpr uint64_t kContextUserDeferred = static_cast<uint64_t>(-640);

// Call chain entries at or above this are context markers, not addresses.
inline constexpr uint64_t kContextMarkers = static_cast<uint64_t>(PERF_CONTEXT_MAX);

// Linux 6.8: branch_sample_type, counters per branch entry follow the branch stack.
inline constexpr uint64_t kBranchCounters = uint64_t{1} << 19;

// The largest record: header.size is 16 bits.
inline constexpr uint32_t kMaxRecordBytes = 65536;

}  // namespace lbrd::pmu
