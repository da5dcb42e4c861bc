// Any bytes as a line of /proc/PID/maps, the path in which is the process's to choose.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "pmu/proc_scan.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

// The first byte says how much of a well-formed line the rest goes on from.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lbrd::pmu::ParseProcMapping;
  using lbrd::pmu::ProcMapping;
  constexpr absl::string_view kLine = "00400000-00452000 r-xp 00001000 08:02 173521  /";
  if (size == 0) return 0;
  std::string line(kLine.substr(0, data[0] % (kLine.size() + 1)));
  line.append(reinterpret_cast<const char*>(data + 1), size - 1);
  ProcMapping mapping;
  if (!ParseProcMapping(line, &mapping)) return 0;
  Check(mapping.start < mapping.end);
  Check(absl::EndsWith(line, mapping.path));
  // Written as the kernel would write it, it says the same.
  const std::string written =
      absl::StrFormat("%08x-%08x r-%cp %08x %02x:%02x %u  %s", mapping.start, mapping.end,
                      mapping.executable ? 'x' : '-', mapping.offset, mapping.major, mapping.minor,
                      mapping.inode, mapping.path);
  ProcMapping again;
  Check(ParseProcMapping(written, &again));
  Check(again.start == mapping.start && again.end == mapping.end &&
        again.offset == mapping.offset && again.executable == mapping.executable &&
        again.major == mapping.major && again.minor == mapping.minor &&
        again.inode == mapping.inode && again.path == mapping.path);
  return 0;
}
