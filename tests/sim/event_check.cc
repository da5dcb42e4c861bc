#include "tests/sim/event_check.h"

#include <asm/perf_regs.h>
#include <linux/hw_breakpoint.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace lbrd::sim {
namespace {

// What the simulation can write into a sample. The kernel knows more: those fields are refused
// here, rather than filled with something made up.
constexpr uint64_t kSampleFields =
    PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
    PERF_SAMPLE_ADDR | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU |
    PERF_SAMPLE_PERIOD | PERF_SAMPLE_READ | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_RAW |
    PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER | PERF_SAMPLE_WEIGHT |
    PERF_SAMPLE_DATA_SRC | PERF_SAMPLE_CGROUP;

constexpr uint64_t kUnsupportedRegisters =
    (uint64_t{1} << PERF_REG_X86_DS) | (uint64_t{1} << PERF_REG_X86_ES) |
    (uint64_t{1} << PERF_REG_X86_FS) | (uint64_t{1} << PERF_REG_X86_GS);

constexpr uint64_t kBranchPrivileges =
    PERF_SAMPLE_BRANCH_USER | PERF_SAMPLE_BRANCH_KERNEL | PERF_SAMPLE_BRANCH_HV;
constexpr uint64_t kBranchKinds = PERF_SAMPLE_BRANCH_ANY | PERF_SAMPLE_BRANCH_ANY_CALL |
                                  PERF_SAMPLE_BRANCH_ANY_RETURN | PERF_SAMPLE_BRANCH_IND_CALL |
                                  PERF_SAMPLE_BRANCH_ABORT_TX | PERF_SAMPLE_BRANCH_IN_TX |
                                  PERF_SAMPLE_BRANCH_NO_TX | PERF_SAMPLE_BRANCH_COND |
                                  PERF_SAMPLE_BRANCH_IND_JUMP | PERF_SAMPLE_BRANCH_CALL;

// Its timers do not run faster.
constexpr uint64_t kMinClockPeriodNs = 10'000;

uint64_t FlagWord(const perf_event_attr& attr) {
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const char*>(&attr) + 40, sizeof(flags));
  return flags;
}

int CheckBranches(const perf_event_attr& attr, const PerfOptions& options, EventConfig* out) {
  uint64_t branches = attr.branch_sample_type;
  uint64_t known = uint64_t{PERF_SAMPLE_BRANCH_MAX} - 1;
  if (!options.knows_hw_index()) known &= ~uint64_t{PERF_SAMPLE_BRANCH_HW_INDEX};
  if ((branches & ~known) != 0 || (branches & ~kBranchPrivileges) == 0) return EINVAL;
  // A software event's refusal, or that of a CPU without LBR, comes before the details.
  if (out->kind != EventKind::kHardware || options.lbr == LbrKind::kNone) return EOPNOTSUPP;
  if (options.lbr_taken) return EBUSY;
  out->lbr = true;
  out->lbr_call_stack = (branches & PERF_SAMPLE_BRANCH_CALL_STACK) != 0;
  if (out->lbr_call_stack && (branches & kBranchKinds) != 0) return EINVAL;
  out->lbr_filter = branches & (kBranchPrivileges | kBranchKinds | PERF_SAMPLE_BRANCH_CALL_STACK);
  return 0;
}

int CheckBreakpoint(const perf_event_attr& attr) {
  const uint64_t length = attr.bp_len;
  switch (attr.bp_type) {
    case HW_BREAKPOINT_X:
      if (length != sizeof(long)) return EINVAL;
      return 0;
    case HW_BREAKPOINT_W:
    case HW_BREAKPOINT_RW:
      break;
    default:
      return EINVAL;  // x86 has no breakpoint on reads alone
  }
  if (length == 0 || length > 8 || !std::has_single_bit(length)) return EINVAL;
  return attr.bp_addr % length == 0 ? 0 : EINVAL;
}

// 0, or ENOENT: no PMU knows it.
int CheckKind(const perf_event_attr& attr, const PerfOptions& options, EventConfig* out) {
  switch (attr.type) {
    case PERF_TYPE_SOFTWARE:
      switch (attr.config) {
        case PERF_COUNT_SW_CPU_CLOCK:
        case PERF_COUNT_SW_TASK_CLOCK:
          out->kind = EventKind::kClock;
          out->rate = 1;
          return 0;
        case PERF_COUNT_SW_CONTEXT_SWITCHES:
          out->kind = EventKind::kSwitches;
          return 0;
        case PERF_COUNT_SW_CPU_MIGRATIONS:
          out->kind = EventKind::kMigrations;
          return 0;
        case PERF_COUNT_SW_PAGE_FAULTS:
        case PERF_COUNT_SW_PAGE_FAULTS_MIN:
          out->kind = EventKind::kFaults;
          return 0;
        case PERF_COUNT_SW_DUMMY:
          out->kind = EventKind::kDummy;
          return 0;
        default:
          return ENOENT;
      }
    case PERF_TYPE_HARDWARE:
      if (!options.has_pmu) return ENOENT;
      out->kind = EventKind::kHardware;
      switch (attr.config & 0xffffffff) {  // above: the number of a hybrid CPU's PMU
        case PERF_COUNT_HW_CPU_CYCLES:
        case PERF_COUNT_HW_REF_CPU_CYCLES:
          out->rate = 2;
          return 0;
        case PERF_COUNT_HW_INSTRUCTIONS:
          out->rate = 3;
          return 0;
        case PERF_COUNT_HW_BRANCH_INSTRUCTIONS:
          out->rate = 1;
          return 0;
        default:
          return ENOENT;
      }
    case PERF_TYPE_RAW:
      if (!options.has_pmu) return ENOENT;
      out->kind = EventKind::kHardware;
      out->rate = 1;
      return 0;
    case PERF_TYPE_BREAKPOINT:
      out->kind = EventKind::kBreakpoint;
      return CheckBreakpoint(attr);
    default:
      return ENOENT;
  }
}

}  // namespace

int CheckAttr(const perf_event_attr& attr, const PerfOptions& options, bool of_task,
              EventConfig* out) {
  *out = {};
  out->attr = attr;
  if (attr.size != 0 && attr.size < PERF_ATTR_SIZE_VER0) return E2BIG;
  if (attr.size > sizeof(attr)) return E2BIG;

  // Bits that this version does not know.
  uint64_t flags = FlagWord(attr);
  out->defer_callchain = (flags & pmu::kAttrDeferCallchain) != 0;
  out->defer_output = (flags & pmu::kAttrDeferOutput) != 0;
  if ((out->defer_callchain || out->defer_output) && !options.knows_deferred()) return EINVAL;
  if (flags >> 40 != 0) return EINVAL;
  if (attr.build_id && !options.knows_build_ids()) return EINVAL;
  if ((attr.sample_type & ~kSampleFields) != 0) return EINVAL;
  uint64_t read_formats = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING |
                          PERF_FORMAT_ID | PERF_FORMAT_GROUP;
  if (options.knows_lost()) read_formats |= PERF_FORMAT_LOST;
  if ((attr.read_format & ~read_formats) != 0) return EINVAL;

  if ((attr.sample_type & PERF_SAMPLE_REGS_USER) != 0) {
    const uint64_t mask = attr.sample_regs_user;
    if (mask == 0 || (mask & kUnsupportedRegisters) != 0 || mask >> PERF_REG_X86_64_MAX != 0) {
      return EINVAL;
    }
  }
  if ((attr.sample_type & PERF_SAMPLE_STACK_USER) != 0 &&
      (attr.sample_stack_user >= UINT16_MAX || attr.sample_stack_user % 8 != 0)) {
    return EINVAL;
  }
  if (!options.privileged && !attr.exclude_kernel && options.paranoid > 1) return EACCES;
  if (attr.freq ? attr.sample_freq > options.max_sample_rate
                : (attr.sample_period & (uint64_t{1} << 63)) != 0) {
    return EINVAL;
  }
  // Only the one clock that all of the simulation has.
  if (attr.use_clockid && attr.clockid != CLOCK_MONOTONIC) return EINVAL;
  if (attr.inherit && (attr.sample_type & PERF_SAMPLE_READ) != 0 && !options.inherits_with_read()) {
    return EINVAL;
  }
  if (attr.sigtrap && !of_task) return EINVAL;
  if (attr.inherit_thread && !attr.inherit) return EINVAL;
  if (attr.sigtrap || attr.aux_output || attr.write_backward) return EINVAL;

  if (const int error = CheckKind(attr, options, out); error != 0) return error;
  if ((attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0) {
    if (const int error = CheckBranches(attr, options, out); error != 0) return error;
  }
  if (out->kind == EventKind::kHardware && attr.precise_ip > options.max_precise) {
    return EOPNOTSUPP;
  }
  if ((attr.sample_type & PERF_SAMPLE_CALLCHAIN) != 0 &&
      attr.sample_max_stack > options.max_stack) {
    return EOVERFLOW;
  }

  if (attr.freq && attr.sample_freq != 0) {
    // Settled from the start: a real kernel finds the period of hardware events in a few ticks.
    const uint64_t per_second = std::max<uint64_t>(out->rate, 1) * 1'000'000'000;
    out->period = out->rate == 0 ? 1 : std::max<uint64_t>(per_second / attr.sample_freq, 1);
  } else if (!attr.freq) {
    out->period = attr.sample_period;
  }
  if (out->kind == EventKind::kClock && out->period != 0) {
    out->period = std::max(out->period, kMinClockPeriodNs);
    // perf_swevent_init_hrtimer(): from then on it has a period, and no frequency.
    out->attr.freq = 0;
    out->attr.sample_period = out->period;
  }
  if (out->kind == EventKind::kDummy) out->period = 0;
  return 0;
}

}  // namespace lbrd::sim
