#include "pmu/stack_source.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {
namespace {

constexpr StackSource kLadder[] = {StackSource::kLbr, StackSource::kKernelDeferred,
                                   StackSource::kDwarf, StackSource::kFramePointer};

// Opens and closes; 0 or the errno.
int TryOpen(Kernel& kernel, const perf_event_attr& attr) {
  const int fd = kernel.OpenEvent(attr, /*pid=*/0, /*cpu=*/-1);
  if (fd < 0) return -fd;
  kernel.Close(fd);
  return 0;
}

// The strongest form of one rung that opens: 0 and *attr, or the errno of the weakest.
int TrySource(Kernel& kernel, const EventCode& code, const EventRequest& request,
              StackSource source, perf_event_attr* attr) {
  int error = 0;
  // Exact IPs exist for hardware events only. Others ignore the bits; ask for none.
  for (int precise = code.software() || code.breakpoint() ? 0 : 3; precise >= 0; --precise) {
    for (const bool read_lost : {true, false}) {
      for (const bool hw_index : {true, false}) {
        if (!hw_index && source != StackSource::kLbr) continue;
        *attr = BuildSamplingAttr(code, request,
                                  {.source = source,
                                   .hw_index = hw_index,
                                   .precise_ip = static_cast<uint8_t>(precise),
                                   .read_lost = read_lost});
        error = TryOpen(kernel, *attr);
        if (error == 0) return 0;
      }
      // Only EINVAL can come from a bit that an older kernel does not know.
      if (error != EINVAL) break;
    }
  }
  return error;
}

// `what`: of the LBR, what was asked for.
std::string ExplainNoLbr(absl::string_view what, const EventCode& code, int error) {
  const std::string kernel_said = absl::StrCat(" (the kernel says: ", strerror(error), ")");
  if (code.software() || code.breakpoint()) {
    return absl::StrCat("'", code.name, "' is a ",
                        code.breakpoint() ? "breakpoint" : "software event",
                        ", which carries no branch stack", kernel_said);
  }
  if (error == ENOENT || error == ENODEV) {
    return absl::StrCat("no hardware PMU here", kernel_said);
  }
  if (error == EOPNOTSUPP) {
    return absl::StrCat("this CPU, or virtual machine, has no ", what, kernel_said);
  }
  if (error == EBUSY) return absl::StrCat("LBR is in use by Intel PT or BTS", kernel_said);
  return absl::StrCat("refused", kernel_said);
}

std::string ExplainRefusal(StackSource source, const EventCode& code, int error) {
  const std::string kernel_said = absl::StrCat(" (the kernel says: ", strerror(error), ")");
  switch (source) {
    case StackSource::kLbr:
      return ExplainNoLbr("LBR call stacks", code, error);
    case StackSource::kKernelDeferred:
      if (error == EINVAL) return absl::StrCat("needs Linux 6.19 or newer", kernel_said);
      break;
    case StackSource::kDwarf:
    case StackSource::kFramePointer:
      break;
  }
  return absl::StrCat("refused", kernel_said);
}

// The hardware's cycles if a PMU counts them, else the CPU clock, which every kernel has.
absl::StatusOr<EventCode> BestEvent(Kernel& kernel, EventRequest request,
                                    std::string* why_not_cycles) {
  request.branch_filter = BranchFilter::kCallStack;  // no matter of the counter
  absl::StatusOr<EventCode> cycles = FindEvent("cycles");
  if (cycles.ok()) {
    const perf_event_attr attr = BuildSamplingAttr(
        *cycles, request, {.source = StackSource::kFramePointer, .read_lost = false});
    const int error = TryOpen(kernel, attr);
    if (error == 0) return cycles;
    // Anything else is not about the hardware, and would fail for the clock as well.
    if (error != ENOENT && error != EOPNOTSUPP && error != ENODEV && error != EINVAL) {
      return ExplainOpenError(error, *cycles, "this machine");
    }
    *why_not_cycles = absl::StrCat("no hardware PMU here (the kernel says: ", strerror(error), ")");
  } else {
    *why_not_cycles = std::string(cycles.status().message());
  }
  return FindEvent("cpu-clock");
}

// Whether samples of the event can carry branches of the request's filter; `no_pmu`: why there is
// no hardware event, if that is known.
absl::Status TryBranchFilter(Kernel& kernel, const EventCode& code, EventRequest request,
                             absl::string_view no_pmu) {
  perf_event_attr attr{};
  const int error = TrySource(kernel, code, request, StackSource::kFramePointer, &attr);
  if (error == 0) return absl::OkStatus();
  const absl::string_view name = BranchFilterName(request.branch_filter);
  request.branch_filter = BranchFilter::kCallStack;
  // What does not open without it either is told like any other event.
  if (const int plain = TrySource(kernel, code, request, StackSource::kFramePointer, &attr);
      plain != 0) {
    return ExplainOpenError(plain, code, "this machine");
  }
  return absl::UnimplementedError(
      absl::StrCat("branch filter ", name, ": ",
                   no_pmu.empty() ? ExplainNoLbr("LBR with this filter", code, error) : no_pmu,
                   "; leave the filter out, or lbrctl doctor says what there is"));
}

}  // namespace

absl::StatusOr<perf_event_attr> TryStackSource(Kernel& kernel, const EventCode& code,
                                               const EventRequest& request, StackSource source) {
  perf_event_attr attr{};
  const int error = TrySource(kernel, code, request, source, &attr);
  if (error != 0) return absl::UnimplementedError(ExplainRefusal(source, code, error));
  return attr;
}

absl::Status ExplainOpenError(int error, const EventCode& code, absl::string_view target) {
  const std::string what = absl::StrCat("cannot open event '", code.name, "' on ", target, ": ");
  switch (error) {
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(
          what,
          "not permitted; run lbrd as root, or with CAP_PERFMON and CAP_SYS_PTRACE (where "
          "kernel.perf_event_paranoid is above 2, as Debian's kernels begin, those are not enough: "
          "sysctl kernel.perf_event_paranoid=2)"));
    case ENOENT:
    case EOPNOTSUPP:
      return absl::UnimplementedError(absl::StrCat(what, "this machine does not count it (",
                                                   strerror(error), "); try --event cpu-clock"));
    case ENODEV:
      return absl::UnavailableError(absl::StrCat(what, "no such device, or the CPU is offline"));
    case ESRCH:
      return absl::NotFoundError(absl::StrCat(what, "no such process"));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(
          absl::StrCat(what, "out of file descriptors; raise LimitNOFILE of lbrd (ulimit -n)"));
    case ENOMEM:
      return absl::ResourceExhaustedError(absl::StrCat(what, "out of memory for the ring"));
    case EBUSY:
      return absl::ResourceExhaustedError(
          absl::StrCat(what, "the hardware is taken by another user"));
    case ENOSPC:
      // Ours are admitted before they are opened (pmu/admission.h): these are others'.
      return absl::ResourceExhaustedError(absl::StrCat(
          what, code.breakpoint()
                    ? "no breakpoint is free; somebody outside lbrd (a debugger, perf) holds them"
                    : "no free counter"));
    case EOVERFLOW:
      return absl::FailedPreconditionError(
          absl::StrCat(what, "call chains are limited; raise kernel.perf_event_max_stack to 127"));
    case EINVAL:
      if (code.breakpoint()) {
        return absl::InvalidArgumentError(absl::StrCat(
            what,
            "the kernel lets nobody break there; is it the kernel's address, with user mode "
            "only (-u, :u)?"));
      }
      return absl::InvalidArgumentError(
          absl::StrCat(what,
                       "the kernel does not take this combination; is the rate above "
                       "kernel.perf_event_max_sample_rate?"));
    default:
      return absl::UnknownError(absl::StrCat(what, strerror(error)));
  }
}

// Only a clock's: of other events the kernel itself sees to it.
absl::Status CheckClockRate(const EventCode& code, const EventRequest& request) {
  constexpr uint64_t kLeastNs = 1'000'000'000 / kMaxClockHz;
  if (!code.clock()) return absl::OkStatus();
  constexpr absl::string_view kWhy =
      "; the kernel does not slow this clock down, and more of it may leave programs no time at "
      "all";
  if (request.frequency_hz > kMaxClockHz) {
    return absl::InvalidArgumentError(absl::StrCat(code.name, ": ", request.frequency_hz,
                                                   " Hz is too high; at most ", kMaxClockHz, kWhy));
  }
  if (request.period != 0 && request.period < kLeastNs) {
    return absl::InvalidArgumentError(absl::StrCat(code.name, ": a sample each ", request.period,
                                                   " ns is too many; each ", kLeastNs, " at most",
                                                   kWhy));
  }
  return absl::OkStatus();
}

absl::StatusOr<ChosenEvent> ChooseEvent(Kernel& kernel, const EventRequest& request) {
  std::string why_not_cycles;
  absl::StatusOr<EventCode> code = request.event.empty()
                                       ? BestEvent(kernel, request, &why_not_cycles)
                                       : FindEvent(request.event);
  if (!code.ok()) return code.status();
  if (const absl::Status rate = CheckClockRate(*code, request); !rate.ok()) return rate;

  ChosenEvent chosen{
      .code = *std::move(code), .source = request.source, .attr = {}, .refusals = {}};
  const bool branch_history = request.branch_filter != BranchFilter::kCallStack;
  if (branch_history) {
    const absl::Status tried = TryBranchFilter(kernel, chosen.code, request, why_not_cycles);
    if (!tried.ok()) return tried;
  }
  int error = 0;
  for (const StackSource source : kLadder) {
    if (!request.best_source && source != request.source) continue;
    if (branch_history && source == StackSource::kLbr) {
      std::string why =
          absl::StrCat("the LBR records branches by another filter here, ",
                       BranchFilterName(request.branch_filter), ", and so holds no call stack");
      if (!request.best_source) {
        return absl::InvalidArgumentError(absl::StrCat("stack mode lbr: ", why));
      }
      chosen.refusals.push_back({source, std::move(why)});
      continue;
    }
    error = TrySource(kernel, chosen.code, request, source, &chosen.attr);
    if (error == 0) {
      chosen.source = source;
      return chosen;
    }
    // Anything else is no matter of the source.
    if (!request.best_source && error != EOPNOTSUPP && error != EINVAL && error != EBUSY) break;
    std::string why = ExplainRefusal(source, chosen.code, error);
    if (source == StackSource::kLbr && !why_not_cycles.empty()) why = why_not_cycles;
    if (!request.best_source) {
      return absl::UnimplementedError(
          absl::StrCat("stack mode ", StackSourceName(source), ": ", why,
                       "; leave the mode out for the best one this machine gives"));
    }
    chosen.refusals.push_back({source, std::move(why)});
  }
  // Not even the plain event would open: the refusals are all about that.
  return ExplainOpenError(error, chosen.code, "this machine");
}

}  // namespace lbrd::pmu
