// A command to profile: started by the client, as the user, held back until the session watches it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lbrd::client {

class TargetCommand {
 public:
  // Forks; the child waits for Release() before it executes the command.
  static absl::StatusOr<TargetCommand> Hold(const std::vector<std::string>& command);
  TargetCommand(TargetCommand&& other) noexcept;
  TargetCommand& operator=(TargetCommand&&) = delete;
  ~TargetCommand();  // a command that was never released is ended

  pid_t pid() const { return pid_; }
  // A pidfd: readable once it has ended. -1: this kernel has none.
  int event() const { return event_; }
  // Lets it run. kNotFound: it cannot be executed.
  absl::Status Release();
  // Whether it has ended, and how: "exit status 3", "signal SEGV"; empty: well.
  bool Ended(std::string* how);
  // Passes a signal on.
  void Signal(int number) const;

 private:
  TargetCommand(pid_t pid, int event, int go, int failed, std::string name)
      : pid_(pid), event_(event), go_(go), failed_(failed), name_(std::move(name)) {}
  pid_t pid_;
  int event_;
  int go_;      // closing it with a byte written lets the child go
  int failed_;  // the child writes its errno here when exec fails
  std::string name_;
};

}  // namespace lbrd::client
