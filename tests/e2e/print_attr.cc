// Prints, as text, the attrs with which an LBR session would be opened on a kernel that refuses
// nothing: "sampling …" and "side-band …", one line each. For lbr_attr_test.py, since the kernel
// here may refuse them.
// usage: print_attr all-cpus|command

#include <cstdio>
#include <cstring>
#include <string>

#include "../unit/pmu/fake_kernel.h"
#include "pmu/event_set.h"
#include "pmu/stack_source.h"

int main(int argc, char** argv) {
  using namespace lbrd::pmu;
  const bool command = argc == 2 && std::strcmp(argv[1], "command") == 0;
  if (argc != 2 || (!command && std::strcmp(argv[1], "all-cpus") != 0)) return 2;
  FakeKernel kernel;
  kernel.files["/sys/devices/system/cpu/online"] = "0";
  kernel.folders["/proc/50/task"] = {50};
  EventTarget target;
  if (command) {
    target.pid = 50;
    target.enable_on_exec = true;
  }
  EventRequest request;
  request.event = "cycles";
  request.frequency_hz = 4000;  // perf's own default
  const absl::StatusOr<ChosenEvent> chosen = ChooseEvent(kernel, request);
  if (!chosen.ok() || chosen->source != StackSource::kLbr) {
    std::fprintf(stderr, "print_attr: no LBR event is asked for\n");
    return 1;
  }
  const auto set = EventSet::Open(kernel, *chosen, target, kDefaultRingBytes);
  if (!set.ok()) {
    std::fprintf(stderr, "print_attr: %s\n", std::string(set.status().message()).c_str());
    return 1;
  }
  for (const auto& [fd, event] : kernel.events()) {
    const bool side_band = event.attr.config == PERF_COUNT_SW_DUMMY;
    std::printf("%s %s\n", side_band ? "side-band" : "sampling", DescribeAttr(event.attr).c_str());
  }
  return 0;
}
