// Hardware breakpoints by name, as perf spells them: mem:ADDRESS[/LENGTH][:ACCESS][:MODIFIERS], or
// with the length as a part of its own: mem:ADDRESS[:LENGTH][:ACCESS][:MODIFIERS].
//
//   mem:0x7ffe1234:w     writes of 4 bytes there
//   mem:0x7ffe1230/8:rw  reads and writes of 8 bytes
//   mem:0x401136:x       execution of that instruction
//
// ADDRESS: hexadecimal with 0x, or decimal; an address of the sampled process. LENGTH: 1, 2, 4 or 8
// bytes, of which the address is a multiple (default: 4; execution: 8, whatever the instruction's).
// ACCESS: r, w, x or rw, in any order (default: rw); x86 has no r alone, and x goes alone.
// MODIFIERS: u, k or uk: touched from user mode, or by the kernel.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pmu/event_name.h"

namespace lbrd::pmu {

// Whether the name is meant to be a breakpoint's; it may be a wrong one.
bool IsBreakpointName(absl::string_view name);

// kInvalidArgument says what is wrong with the name.
absl::StatusOr<EventCode> ParseBreakpoint(absl::string_view name);

}  // namespace lbrd::pmu
