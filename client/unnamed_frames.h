// Names what a service has no names for, on the user's side: by the debuginfod servers that the
// user has ($DEBUGINFOD_URLS), through a daemon of the user's own. Nothing of it reaches the
// service.
#pragma once

#include "lbrd/v1/profiler.pb.h"

namespace lbrd::client {

// Sets symbols, and lines where they are asked for, of frames without a symbol. Does nothing where
// no servers are set, or there is nothing to name; what goes wrong is said on standard error, and
// leaves frames as they are.
void NameUnnamedFrames(const v1::SourceDetail& detail, bool quiet, v1::Definitions* definitions);

}  // namespace lbrd::client
