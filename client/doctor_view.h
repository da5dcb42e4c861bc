// What lbrctl doctor shows: a daemon's probes as lines, each with a mark and a verdict.
#pragma once

#include <cstddef>
#include <string>

#include "lbrd/v1/profiler.pb.h"

namespace lbrd::client {

// A line for each probe; under each that is degraded or missing, why, and what to do; then the
// paragraph on stacks. Ends with a newline. `width`: cells of a line, at least 60 are used.
std::string RenderDoctor(const v1::Capabilities& capabilities, size_t width);

// 0: everything is fine; 1: sessions work, but something is degraded or missing; 2: none can be
// started, or the daemon said nothing.
int DoctorExitCode(const v1::Capabilities& capabilities);

}  // namespace lbrd::client
