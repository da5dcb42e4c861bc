// The daemon at work, in its two roles that serve clients: the engine, which its broker started,
// and a recording's private one.
#pragma once

#include "daemon/start_options.h"

namespace lbrd::daemon {

// With a broker at the other end of options.engine_channel. Exit code.
int EngineMain(const StartOptions& options);

// For one client, who started it, with that client's rights. Exit code.
int ReplayMain(const StartOptions& options);

}  // namespace lbrd::daemon
