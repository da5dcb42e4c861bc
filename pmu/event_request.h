// What is asked of the kernel: a request -> perf_event_attr. Pure, so that every bit can be tested.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "pmu/abi.h"
#include "pmu/branch_filter.h"
#include "pmu/event_name.h"

namespace lbrd::pmu {

// Where user stacks come from, best first.
enum class StackSource : uint8_t { kLbr, kKernelDeferred, kDwarf, kFramePointer };
absl::string_view StackSourceName(StackSource source);

// Larger copies do not fit in a record, whose size is 16 bits.
inline constexpr uint32_t kMaxStackCopyBytes = 65528 - 4096;
inline constexpr uint32_t kDefaultStackCopyBytes = 16384;
inline constexpr uint32_t kDefaultFrequencyHz = 999;
// Of cpu-clock and task-clock. The kernel lowers the rate of a hardware event whose samples take
// too long (perf_cpu_time_max_percent), not that of a clock: at 50 kHz and some 20 us a sample no
// program gets any time, the one that would stop it among them.
inline constexpr uint32_t kMaxClockHz = 20'000;

// Call chains of this many entries at most: the sysctl's usual limit, and from 6.15 on also the cap
// of branch entries, so never below 32.
inline constexpr uint16_t kMaxChainEntries = 127;

struct EventRequest {
  std::string event;          // empty: the best this machine has
  uint32_t frequency_hz = 0;  // 0 with period 0: kDefaultFrequencyHz; of breakpoints: every hit
  uint64_t period = 0;        // excludes frequency_hz
  bool best_source = true;    // take the ladder from the top, ignoring `source`
  StackSource source = StackSource::kLbr;
  uint32_t stack_copy_bytes = kDefaultStackCopyBytes;  // a multiple of 8
  bool copy_beside_lbr = false;                        // copy that much with the LBR as well
  bool user_only = false;
  // Another than of call stacks: every sample carries such branches as well, whatever its stack is
  // from, which is not the LBR then.
  BranchFilter branch_filter = BranchFilter::kCallStack;
};

// How the kernel is asked for a source; weaker forms for kernels that refuse the strong one.
struct AttrVariant {
  StackSource source = StackSource::kLbr;
  bool hw_index = true;    // LBR: the top-of-stack index (5.7)
  uint8_t precise_ip = 0;  // 3 to 0: how exact the sampled IP is
  bool read_lost = true;   // read_format LOST (6.0)
};

// The sampling event's attr, disabled. Every record carries IDENTIFIER, IP, TID, TIME
// (CLOCK_MONOTONIC), CPU and, unless it is fixed, PERIOD; what else, depends on
// the source (see the definition, which gives each bit's reason).
perf_event_attr BuildSamplingAttr(const EventCode& code, const EventRequest& request,
                                  const AttrVariant& variant);

// The attr of the event that carries what else must be known of processes: mappings (with build IDs
// where `build_ids`, 5.12), names, forks and exits, kernel symbols. It samples nothing.
perf_event_attr BuildSideBandAttr(bool build_ids, bool read_lost);

// Where `sampling` puts user chains off until the way back to user mode: makes the side-band event
// of the same ring receive them. The kernel hands them to events that carry mappings or names, so
// the sampling event itself would get none on a whole CPU; and of two receivers both would get
// each.
void ReceiveDeferredChains(const perf_event_attr& sampling, perf_event_attr* side_band);

// An attr as text, one "field=value" per set field, for people and for tests.
std::string DescribeAttr(const perf_event_attr& attr);

}  // namespace lbrd::pmu
