#include "pmu/event_request.h"

#include <asm/perf_regs.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kEveryRecord =
    PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU;

#if defined(__x86_64__)
// What an unwinder needs to start: all general registers but the segment ones, which the kernel
// refuses to copy. The LBR request needs only where user mode was.
constexpr uint64_t kUnwindRegisters =
    ((uint64_t{1} << PERF_REG_X86_64_MAX) - 1) &
    ~((uint64_t{1} << PERF_REG_X86_DS) | (uint64_t{1} << PERF_REG_X86_ES) |
      (uint64_t{1} << PERF_REG_X86_FS) | (uint64_t{1} << PERF_REG_X86_GS));
constexpr uint64_t kPlaceRegisters = (uint64_t{1} << PERF_REG_X86_IP) |
                                     (uint64_t{1} << PERF_REG_X86_SP) |
                                     (uint64_t{1} << PERF_REG_X86_BP);
#else
#error "name this architecture's registers here"
#endif

// The word of one-bit fields, of which our headers do not name all.
constexpr size_t kFlagWordOffset = 40;
static_assert(offsetof(perf_event_attr, read_format) + sizeof(uint64_t) == kFlagWordOffset);

uint64_t FlagWord(const perf_event_attr& attr) {
  uint64_t flags;
  std::memcpy(&flags, reinterpret_cast<const char*>(&attr) + kFlagWordOffset, sizeof(flags));
  return flags;
}

void SetFlagWord(uint64_t flags, perf_event_attr* attr) {
  std::memcpy(reinterpret_cast<char*>(attr) + kFlagWordOffset, &flags, sizeof(flags));
}

perf_event_attr CommonAttr(bool read_lost) {
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.disabled = 1;
  attr.sample_id_all = 1;
  // One clock for all records, readable by us too: ordering across rings compares the two.
  attr.use_clockid = 1;
  attr.clockid = CLOCK_MONOTONIC;
  attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING |
                     PERF_FORMAT_ID | (read_lost ? uint64_t{PERF_FORMAT_LOST} : 0);
  return attr;
}

}  // namespace

absl::string_view StackSourceName(StackSource source) {
  switch (source) {
    case StackSource::kLbr:
      return "lbr";
    case StackSource::kKernelDeferred:
      return "kernel-deferred";
    case StackSource::kDwarf:
      return "dwarf";
    case StackSource::kFramePointer:
      return "fp";
  }
  return "";
}

perf_event_attr BuildSamplingAttr(const EventCode& code, const EventRequest& request,
                                  const AttrVariant& variant) {
  perf_event_attr attr = CommonAttr(variant.read_lost);
  attr.type = code.type;
  attr.config = code.config;
  attr.config1 = code.config1;
  attr.config2 = code.config2;
  attr.bp_type = code.breakpoint_type;
  attr.sample_type = kEveryRecord | PERF_SAMPLE_IP | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN;
  if (request.period != 0) {
    attr.sample_period = request.period;
  } else if (code.breakpoint() && request.frequency_hz == 0) {
    attr.sample_period = 1;
  } else {
    attr.freq = 1;
    attr.sample_freq = request.frequency_hz != 0 ? request.frequency_hz : kDefaultFrequencyHz;
  }
  // A fixed period is known, and where a software event's samples are to tell it, the kernel takes
  // one of every event, whatever the period is.
  if (!attr.freq) attr.sample_type &= ~uint64_t{PERF_SAMPLE_PERIOD};
  attr.exclude_user = code.exclude_user;
  attr.exclude_kernel = code.exclude_kernel || request.user_only;
  attr.exclude_callchain_kernel = attr.exclude_kernel;
  attr.exclude_hv = 1;
  attr.exclude_guest = 1;  // a guest's addresses mean nothing here
  // The clocks tick while idle too; idle CPUs have nothing to tell and should not be woken for it.
  attr.exclude_idle = code.clock();
  attr.precise_ip = variant.precise_ip;
  attr.sample_max_stack = kMaxChainEntries;

  if (request.branch_filter != BranchFilter::kCallStack) {
    attr.sample_type |= PERF_SAMPLE_BRANCH_STACK;
    attr.branch_sample_type = BranchSampleType(request.branch_filter, /*hw_index=*/false);
  }
  switch (variant.source) {
    case StackSource::kLbr:
      attr.sample_type |= PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER;
      attr.branch_sample_type = BranchSampleType(BranchFilter::kCallStack, variant.hw_index);
      // The kernel would walk user frame pointers for nothing; the registers tell where user mode
      // was, which the chain would otherwise.
      attr.exclude_callchain_user = 1;
      attr.sample_regs_user = kPlaceRegisters;
      if (request.copy_beside_lbr) {
        attr.sample_type |= PERF_SAMPLE_STACK_USER;
        attr.sample_regs_user = kUnwindRegisters;
        attr.sample_stack_user = request.stack_copy_bytes;
      }
      break;
    case StackSource::kKernelDeferred:
      SetFlagWord(FlagWord(attr) | kAttrDeferCallchain, &attr);
      break;
    case StackSource::kDwarf:
      attr.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
      attr.sample_regs_user = kUnwindRegisters;
      attr.sample_stack_user = request.stack_copy_bytes;
      // Unwound from the copy instead; the kernel's frame-pointer walk would be thrown away.
      attr.exclude_callchain_user = 1;
      break;
    case StackSource::kFramePointer:
      break;
  }
  return attr;
}

perf_event_attr BuildSideBandAttr(bool build_ids, bool read_lost) {
  perf_event_attr attr = CommonAttr(read_lost);
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  attr.sample_type = kEveryRecord;
  attr.exclude_kernel = 1;  // a dummy counts nothing anyhow, and this is refused less
  attr.mmap = 1;
  attr.mmap2 = 1;
  attr.build_id = build_ids;
  attr.comm = 1;
  attr.comm_exec = 1;
  attr.task = 1;
  attr.ksymbol = 1;
  return attr;
}

void ReceiveDeferredChains(const perf_event_attr& sampling, perf_event_attr* side_band) {
  if ((FlagWord(sampling) & kAttrDeferCallchain) == 0) return;
  SetFlagWord(FlagWord(*side_band) | kAttrDeferOutput, side_band);
}

std::string DescribeAttr(const perf_event_attr& attr) {
  std::string text;
  const auto add = [&text](absl::string_view name, uint64_t value, bool hex = false) {
    if (value == 0) return;
    absl::StrAppend(&text, text.empty() ? "" : " ", name, "=",
                    hex ? absl::StrFormat("%#x", value) : absl::StrCat(value));
  };
  const uint64_t flags = FlagWord(attr);
  absl::StrAppend(&text, "type=", attr.type);
  add("config", attr.config, true);
  add("config1", attr.config1, true);
  add("config2", attr.config2, true);
  add("bp_type", attr.bp_type);
  add(attr.freq ? "sample_freq" : "sample_period", attr.sample_period);
  add("sample_type", attr.sample_type, true);
  add("read_format", attr.read_format, true);
  add("disabled", attr.disabled);
  add("inherit", attr.inherit);
  add("pinned", attr.pinned);
  add("exclusive", attr.exclusive);
  add("exclude_user", attr.exclude_user);
  add("exclude_kernel", attr.exclude_kernel);
  add("exclude_hv", attr.exclude_hv);
  add("exclude_idle", attr.exclude_idle);
  add("mmap", attr.mmap);
  add("comm", attr.comm);
  add("inherit_stat", attr.inherit_stat);
  add("enable_on_exec", attr.enable_on_exec);
  add("task", attr.task);
  add("watermark", attr.watermark);
  add("precise_ip", attr.precise_ip);
  add("mmap_data", attr.mmap_data);
  add("sample_id_all", attr.sample_id_all);
  add("exclude_host", attr.exclude_host);
  add("exclude_guest", attr.exclude_guest);
  add("exclude_callchain_kernel", attr.exclude_callchain_kernel);
  add("exclude_callchain_user", attr.exclude_callchain_user);
  add("mmap2", attr.mmap2);
  add("comm_exec", attr.comm_exec);
  add("use_clockid", attr.use_clockid);
  add("context_switch", attr.context_switch);
  add("write_backward", attr.write_backward);
  add("namespaces", attr.namespaces);
  add("ksymbol", attr.ksymbol);
  add("bpf_event", attr.bpf_event);
  add("aux_output", attr.aux_output);
  add("cgroup", attr.cgroup);
  add("text_poke", attr.text_poke);
  add("build_id", attr.build_id);
  add("inherit_thread", attr.inherit_thread);
  add("remove_on_exec", attr.remove_on_exec);
  add("sigtrap", attr.sigtrap);
  add("defer_callchain", (flags & kAttrDeferCallchain) != 0);
  add("defer_output", (flags & kAttrDeferOutput) != 0);
  add(attr.watermark ? "wakeup_watermark" : "wakeup_events", attr.wakeup_events);
  add("bp_type", attr.bp_type);
  add("config1", attr.config1, true);
  add("config2", attr.config2, true);
  add("branch_sample_type", attr.branch_sample_type, true);
  add("sample_regs_user", attr.sample_regs_user, true);
  add("sample_stack_user", attr.sample_stack_user);
  if (attr.use_clockid) absl::StrAppend(&text, " clockid=", attr.clockid);
  add("sample_regs_intr", attr.sample_regs_intr, true);
  add("aux_watermark", attr.aux_watermark);
  add("sample_max_stack", attr.sample_max_stack);
  add("aux_sample_size", attr.aux_sample_size);
  add("sig_data", attr.sig_data, true);
  return text;
}

}  // namespace lbrd::pmu
