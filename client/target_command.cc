#include "client/target_command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::client {

absl::StatusOr<TargetCommand> TargetCommand::Hold(const std::vector<std::string>& command) {
  int go[2];
  int failed[2];
  if (pipe2(go, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  if (pipe2(failed, O_CLOEXEC) != 0) {
    close(go[0]);
    close(go[1]);
    return absl::ErrnoToStatus(errno, "cannot make a pipe");
  }
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    close(go[1]);
    char byte;
    if (read(go[0], &byte, 1) != 1) _exit(0);  // never released
    // The session counts nothing until this exec: see Process.enable_on_exec.
    execvp(arguments[0], arguments.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = write(failed[1], &error, sizeof(error));
    _exit(127);
  }
  const int fork_error = errno;
  close(go[0]);
  close(failed[1]);
  if (pid < 0) {
    close(go[1]);
    close(failed[0]);
    return absl::ErrnoToStatus(fork_error, "cannot fork");
  }
  return TargetCommand(pid, static_cast<int>(syscall(SYS_pidfd_open, pid, 0)), go[1], failed[0],
                       command[0]);
}

TargetCommand::TargetCommand(TargetCommand&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      event_(std::exchange(other.event_, -1)),
      go_(std::exchange(other.go_, -1)),
      failed_(std::exchange(other.failed_, -1)),
      name_(std::move(other.name_)) {}

TargetCommand::~TargetCommand() {
  if (go_ >= 0) close(go_);
  if (failed_ >= 0) close(failed_);
  if (event_ >= 0) close(event_);
  if (pid_ > 0 && go_ >= 0) waitpid(pid_, nullptr, 0);
}

absl::Status TargetCommand::Release() {
  const char byte = 0;
  const bool sent = write(go_, &byte, 1) == 1;
  close(std::exchange(go_, -1));
  int error = 0;
  // End of file: exec closed the pipe, so it succeeded.
  const bool exec_failed = read(failed_, &error, sizeof(error)) == sizeof(error);
  if (!sent || exec_failed) {
    waitpid(std::exchange(pid_, -1), nullptr, 0);
    return absl::NotFoundError(
        absl::StrCat("cannot run '", name_, "': ", strerror(exec_failed ? error : EPIPE)));
  }
  return absl::OkStatus();
}

bool TargetCommand::Ended(std::string* how) {
  if (pid_ < 0) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  pid_ = -1;
  if (WIFSIGNALED(status)) {
    *how = absl::StrCat("signal ", sigabbrev_np(WTERMSIG(status)));
  } else if (WEXITSTATUS(status) != 0) {
    *how = absl::StrCat("exit status ", WEXITSTATUS(status));
  }
  return true;
}

void TargetCommand::Signal(int number) const {
  if (pid_ > 0) kill(pid_, number);
}

}  // namespace lbrd::client
