// The daemon as a user or systemd starts it: the broker, which starts the engine.
#pragma once

#include "daemon/start_options.h"

namespace lbrd::daemon {

// Exit code of the daemon.
int BrokerMain(const StartOptions& options);

}  // namespace lbrd::daemon
