// What lbrctl status shows: the daemon's figures as an aligned table.
#pragma once

#include <string>

#include "lbrd/v1/profiler.pb.h"

namespace lbrd::client {

// A line for each thing: its name, its figure, and what it means where that is not plain. No line
// is longer than 80 cells. Ends with a newline.
std::string RenderStatus(const v1::DaemonStats& stats);

}  // namespace lbrd::client
