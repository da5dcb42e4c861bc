#include "daemon/engine_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

constexpr const char* kUsers[] = {"lbrd", "nobody"};
// The engine's exit code where it never came to be one.
constexpr int kNotStarted = 127;

[[noreturn]] void Fail(const char* what) {
  const std::string line =
      absl::StrCat("lbrd: cannot start the engine: ", what, ": ", strerror(errno), "\n");
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  _exit(kNotStarted);
}

void DropPrivileges(const EngineUser& user) {
  if (user.change) {
    if (setgroups(1, &user.gid) != 0) Fail("setgroups");
    if (setresgid(user.gid, user.gid, user.gid) != 0) Fail("setresgid");
    if (setresuid(user.uid, user.uid, user.uid) != 0) Fail("setresuid");
  }
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  const cap_t none = cap_init();
  // Where systemd's filter does not let us, what is executed has none all the same: nothing is
  // ambient any more, and the file gives none. The engine looks (daemon/sandbox).
  if (none != nullptr) cap_set_proc(none);
  cap_free(none);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Fail("PR_SET_NO_NEW_PRIVS");
}

[[noreturn]] void BecomeEngine(const EngineUser& user, const std::vector<std::string>& arguments,
                               int channel, pid_t broker) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Ctrl-C is for the broker, which ends its engine itself.
  setpgid(0, 0);
  DropPrivileges(user);
  // After the change of user, which would undo it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != broker) _exit(kNotStarted);
  syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  fcntl(channel, F_SETFD, 0);
  // systemd speaks with the broker alone, but the engine is to know how often.
  unsetenv("NOTIFY_SOCKET");
  if (getenv("WATCHDOG_PID") != nullptr) {
    setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  std::string engine = "--engine";
  std::string number = absl::StrCat(channel);
  argv.push_back(engine.data());
  argv.push_back(number.data());
  argv.push_back(nullptr);
  execv("/proc/self/exe", argv.data());
  Fail("cannot execute lbrd as the engine's user (is it readable by all?)");
}

}  // namespace

absl::StatusOr<EngineUser> FindEngineUser() {
  if (geteuid() != 0) {
    return EngineUser{.name = "the broker's own user", .uid = geteuid(), .gid = getegid()};
  }
  for (const char* name : kUsers) {
    const passwd* found = getpwnam(name);
    if (found != nullptr && found->pw_uid != 0) {
      return EngineUser{.name = name, .uid = found->pw_uid, .gid = found->pw_gid, .change = true};
    }
  }
  return absl::NotFoundError(
      "there is neither a user lbrd nor a user nobody, as which the part of lbrd that parses "
      "programs could run; make one: useradd --system lbrd");
}

absl::StatusOr<EngineProcess> StartEngine(const EngineUser& user,
                                          const std::vector<std::string>& arguments) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make the engine's channel");
  }
  const pid_t broker = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeEngine(user, arguments, ends[1], broker);
  const int error = errno;
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return absl::ErrnoToStatus(error, "cannot fork the engine");
  }
  return EngineProcess{.pid = pid, .channel = ends[0]};
}

absl::Status GiveHistory(const EngineUser& user, const std::string& history_path) {
  if (!user.change || history_path.empty()) return absl::OkStatus();
  const std::filesystem::path path(history_path);
  const std::string name = path.filename().string();
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  std::error_code error;
  const mode_t mask = umask(0022);
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path().parent_path(), error);
  }
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    const int making = errno;
    umask(mask);
    return absl::ErrnoToStatus(making, absl::StrCat("cannot make ", folder));
  }
  umask(mask);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", folder));
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd), closedir);
  struct stat status;
  if (listing == nullptr || fstat(fd, &status) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot list ", folder));
  }
  std::vector<std::string> files;
  bool strange = false;
  while (const dirent* entry = readdir(listing.get())) {
    const std::string one = entry->d_name;
    if (one == "." || one == "..") continue;
    struct stat of;
    const bool ours =
        absl::StartsWith(one, name) && fstatat(fd, one.c_str(), &of, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(of.st_mode) && of.st_nlink == 1 && (of.st_uid == 0 || of.st_uid == user.uid);
    if (ours) {
      files.push_back(one);
    } else {
      strange = true;
    }
  }
  // Folders that somebody else uses too are not ours to give away. It may be writable all the same.
  const bool give = status.st_uid == 0 && !strange && (status.st_mode & S_ISVTX) == 0;
  if (give && fchown(fd, user.uid, user.gid) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot give ", folder, " to ", user.name));
  }
  for (const std::string& one : files) {
    if (fchownat(fd, one.c_str(), user.uid, user.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot give ", folder, "/", one));
    }
  }
  const bool writable = give || status.st_uid == user.uid || (status.st_mode & S_IWOTH) != 0;
  if (writable) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      folder,
      " holds other files too, so it stays root's, and the history cannot be written by user ",
      user.name, "; give it a folder of its own: --history ", folder, "/history/", name));
}

}  // namespace lbrd::daemon
