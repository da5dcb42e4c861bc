// With what lbrd was started: the flags of its command line, and the settings that follow from them
// and the configuration file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/broker_client.h"
#include "daemon/config.h"

namespace lbrd::daemon {

// What makes one run of the daemon, beside the settings.
struct StartOptions {
  FlagValues settings;
  std::string config_path;  // empty: the default one, if it is there
  bool check_config = false;
  bool replay = false;
  int ready_fd = -1;
  int engine_channel = -1;  // it is an engine, and this leads to its broker
  std::vector<std::string> arguments;
};

// The one that was chosen, or the default one.
std::string ConfigPath(const StartOptions& options);

// The file, and the flags over it. An engine need not be able to read the file: its broker is.
absl::StatusOr<Config> LoadConfig(const StartOptions& options, BrokerClient* broker = nullptr);
// The same, as every role begins with it: logs what is wrong, a line each, and sets how much is
// logged. nullopt: it was wrong; exit code 2.
std::optional<Config> LoadConfigAtStart(const StartOptions& options,
                                        BrokerClient* broker = nullptr);

// Every event, every mapped binary and every client is a descriptor: as many as may be.
void RaiseDescriptorLimit();

}  // namespace lbrd::daemon
