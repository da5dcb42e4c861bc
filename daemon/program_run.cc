#include "daemon/program_run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

constexpr int kCannotExecute = 127;

// A descriptor that is closed in the end, if not before.
class Owned {
 public:
  Owned() = default;
  ~Owned() { Close(); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  void Set(int fd) {
    Close();
    fd_ = fd;
  }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct Pipe {
  Owned read;
  Owned write;
  bool Open() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return false;
    read.Set(fds[0]);
    write.Set(fds[1]);
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0;
  }
  // Takes what is there. Reads no more than a pipe holds, so that a writer who never stops does not
  // keep us; closes it at its end.
  void Drain(std::string* kept) {
    std::array<char, 4096> piece;
    for (int i = 0; i < 16 && read.get() >= 0; ++i) {
      const ssize_t bytes = ::read(read.get(), piece.data(), piece.size());
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0 && errno == EAGAIN) return;
      if (bytes <= 0) return read.Close();
      const size_t room = kMaxProgramOutput - std::min(kMaxProgramOutput, kept->size());
      kept->append(piece.data(), std::min(room, static_cast<size_t>(bytes)));
    }
  }
};

absl::string_view NameOf(absl::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::vector<std::string> EnvironmentOf(const Program& program) {
  std::vector<std::string> all;
  for (const std::string& own : program.environment) {
    if (NameOf(own) != own) all.push_back(own);
  }
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const bool replaced =
        std::any_of(program.environment.begin(), program.environment.end(),
                    [&](const std::string& own) { return NameOf(own) == NameOf(*variable); });
    if (!replaced) all.emplace_back(*variable);
  }
  return all;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// In the child of a process with many threads: nothing but system calls.
[[noreturn]] void Execute(const char* path, char** arguments, char** environment, int out, int err,
                          uint64_t max_file_bytes, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kCannotExecute);
  setpgid(0, 0);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGXFSZ, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const rlimit files{max_file_bytes, max_file_bytes};
  const rlimit no_core{0, 0};
  const int null = open("/dev/null", O_RDONLY);
  if (setrlimit(RLIMIT_FSIZE, &files) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0 || null < 0 ||
      dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
      dup2(err, STDERR_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) != 0) {
    _exit(kCannotExecute);
  }
  execve(path, arguments, environment);
  _exit(kCannotExecute);
}

int MillisecondsUntil(absl::Time time) {
  const double left = absl::ToDoubleMilliseconds(time - absl::Now());
  return static_cast<int>(std::ceil(std::clamp(left, 0.0, 3'600'000.0)));
}

}  // namespace

bool ProgramEnd::Succeeded() const {
  return in_time && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
}

absl::StatusOr<ProgramEnd> RunProgram(const Program& program) {
  // All memory is allocated before there is a child: in it no allocator may be used.
  std::vector<std::string> argument_texts = {program.path};
  argument_texts.insert(argument_texts.end(), program.arguments.begin(), program.arguments.end());
  std::vector<char*> arguments = Pointers(argument_texts);
  std::vector<std::string> environment_texts = EnvironmentOf(program);
  std::vector<char*> environment = Pointers(environment_texts);
  Pipe out;
  Pipe err;
  if (!out.Open() || !err.Open()) return absl::ErrnoToStatus(errno, "cannot make a pipe");

  const absl::Time end_of_time = absl::Now() + program.time_limit;
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    Execute(program.path.c_str(), arguments.data(), environment.data(), out.write.get(),
            err.write.get(), program.max_file_bytes, parent);
  }
  if (pid < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot run ", program.path));
  // Both do it, since who comes first is not known.
  setpgid(pid, pid);
  out.write.Close();
  err.write.Close();
  Owned process;
  process.Set(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));

  const int watched = process.get() >= 0 ? 0 : errno;

  ProgramEnd end;
  bool over = watched != 0;
  while (!over) {
    // poll(2) skips the negative ones.
    pollfd waiting[] = {
        {process.get(), POLLIN, 0}, {out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0}};
    const int ready = poll(waiting, std::size(waiting), MillisecondsUntil(end_of_time));
    if (ready < 0 && errno != EINTR) break;
    end.in_time = ready > 0 && waiting[0].revents != 0;
    out.Drain(&end.out);
    err.Drain(&end.err);
    // Not only when nothing is ready: it may write without end.
    over = end.in_time || absl::Now() >= end_of_time;
  }
  // Also what it may have left behind.
  kill(-pid, SIGKILL);
  if (!end.in_time) kill(pid, SIGKILL);
  while (waitpid(pid, &end.wait_status, 0) < 0 && errno == EINTR) {
  }
  if (watched != 0) return absl::ErrnoToStatus(watched, "cannot watch a process");
  return end;
}

std::string FindProgram(const std::string& name, const std::string& path) {
  for (const absl::string_view folder : absl::StrSplit(path, ':', absl::SkipEmpty())) {
    // What a folder that depends on where we are holds is not what the user means.
    if (!absl::StartsWith(folder, "/")) continue;
    std::string candidate = absl::StrCat(folder, "/", name);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

}  // namespace lbrd::daemon
