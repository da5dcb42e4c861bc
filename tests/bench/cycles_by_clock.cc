// Where the processor's cycles cannot be counted (virtual machines), sysprof 3.46 records nothing:
// it knows no other clock. Preloaded (LD_PRELOAD), this gives it the kernel's clock instead, so
// that what it costs can be measured: 1,200,000 cycles, its period, become 1/1200 s.
#include <dlfcn.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include <cstdarg>

extern "C" long syscall(long number, ...) noexcept {
  using Syscall = long (*)(long, ...);
  static const auto next = reinterpret_cast<Syscall>(dlsym(RTLD_NEXT, "syscall"));
  std::va_list list;
  va_start(list, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  const auto call = [&] {
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
  };
  if (number != SYS_perf_event_open) return call();
  auto* const attr = reinterpret_cast<perf_event_attr*>(arguments[0]);
  if (attr->type != PERF_TYPE_HARDWARE || attr->config != PERF_COUNT_HW_CPU_CYCLES) return call();
  attr->type = PERF_TYPE_SOFTWARE;
  attr->config = PERF_COUNT_SW_CPU_CLOCK;
  attr->sample_period = 1'000'000'000 / 1200;
  return call();
}
