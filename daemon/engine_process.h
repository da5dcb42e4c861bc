// The engine as a process: the same program again, as another user, without capabilities, and with
// a channel to its broker.
//
// Thread rules: of a process with one thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

// As whom the engine runs. Where the broker is not root, it cannot choose: the engine has its user,
// and none of its capabilities.
struct EngineUser {
  std::string name;  // "lbrd"
  uid_t uid = 0;
  gid_t gid = 0;
  bool change = false;  // whether the broker must change to it
};
// Root's engine: user lbrd, or nobody where there is no such user.
absl::StatusOr<EngineUser> FindEngineUser();

struct EngineProcess {
  pid_t pid = -1;
  int channel = -1;  // the broker's end
};

// Starts `/proc/self/exe` with `arguments` (its name first) and `--engine CHANNEL`, its end of the
// channel, which it has beside its standard ones. It dies with the broker.
absl::StatusOr<EngineProcess> StartEngine(const EngineUser& user,
                                          const std::vector<std::string>& arguments);

// Gives the history's folder, which is made if it is missing, and what is in it to the engine's
// user: once, while the broker still may. A folder that holds anything else stays as it is. What
// could not be done is what it returns.
absl::Status GiveHistory(const EngineUser& user, const std::string& history_path);

}  // namespace lbrd::daemon
