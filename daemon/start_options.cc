#include "daemon/start_options.h"

#include <sys/resource.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

// An engine need not be able to read it: its broker is.
absl::StatusOr<Config> ReadConfigFile(const std::string& path, BrokerClient* broker) {
  if (broker == nullptr) return ReadConfig(path);
  const BrokerClient::Reply reply = broker->Ask({.call = BrokerCall::kOpenConfig});
  if (reply.fd >= 0) return ReadOpenConfig(reply.fd, path);
  return absl::ErrnoToStatus(reply.error != 0 ? reply.error : EMFILE,
                             absl::StrCat("cannot read ", path));
}

}  // namespace

std::string ConfigPath(const StartOptions& options) {
  return options.config_path.empty() ? std::string(kDefaultConfigPath) : options.config_path;
}

absl::StatusOr<Config> LoadConfig(const StartOptions& options, BrokerClient* broker) {
  Config config;
  // A recording is read the same way wherever it is.
  if (!options.replay) {
    const bool chosen = !options.config_path.empty();
    absl::StatusOr<Config> read = ReadConfigFile(ConfigPath(options), broker);
    if (read.ok()) {
      config = *std::move(read);
    } else if (chosen || !absl::IsNotFound(read.status())) {
      return read.status();
    }
  }
  if (absl::Status applied = ApplyFlags(options.settings, &config); !applied.ok()) return applied;
  return config;
}

std::optional<Config> LoadConfigAtStart(const StartOptions& options, BrokerClient* broker) {
  absl::StatusOr<Config> config = LoadConfig(options, broker);
  if (!config.ok()) {
    LogLines(LogLevel::kError, config.status().message());
    return std::nullopt;
  }
  SetLogLevel(config->log_level);
  return *std::move(config);
}

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace lbrd::daemon
