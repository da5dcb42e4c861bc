#include "pmu/event_name.h"

#include <linux/perf_event.h>
#include <perfmon/pfmlib.h>
#include <perfmon/pfmlib_perf_event.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/breakpoint_name.h"

namespace lbrd::pmu {
namespace {

int InitializeOnce() {
  static const int result = pfm_initialize();  // not thread-safe by itself
  return result;
}

}  // namespace

bool EventCode::clock() const {
  return type == PERF_TYPE_SOFTWARE &&
         (config == PERF_COUNT_SW_CPU_CLOCK || config == PERF_COUNT_SW_TASK_CLOCK);
}

absl::StatusOr<EventCode> FindEvent(const std::string& name) {
  if (IsBreakpointName(name)) return ParseBreakpoint(name);
  if (const int result = InitializeOnce(); result != PFM_SUCCESS) {
    return absl::InternalError(absl::StrCat("libpfm4 does not start: ", pfm_strerror(result)));
  }
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  pfm_perf_encode_arg_t encoding{};
  encoding.attr = &attr;
  encoding.size = sizeof(encoding);
  // PLM0 | PLM3: kernel and user unless the name's own modifiers say otherwise.
  const int result =
      pfm_get_os_event_encoding(name.c_str(), PFM_PLM0 | PFM_PLM3, PFM_OS_PERF_EVENT, &encoding);
  if (result != PFM_SUCCESS) {
    return absl::NotFoundError(absl::StrCat(
        "unknown event '", name, "' (libpfm4: ", pfm_strerror(result),
        "); try cycles, instructions, cpu-clock, task-clock, context-switches or page-faults"));
  }
  EventCode code{.name = name,
                 .type = attr.type,
                 .config = attr.config,
                 .config1 = attr.config1,
                 .config2 = attr.config2,
                 .exclude_user = attr.exclude_user != 0,
                 .exclude_kernel = attr.exclude_kernel != 0};
  code.unit = code.clock() ? "ns" : name;
  return code;
}

}  // namespace lbrd::pmu
