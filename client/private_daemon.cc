#include "client/private_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::client {
namespace {

// A daemon that is not ready after this long never will be.
constexpr int kReadyTimeoutMs = 20'000;

absl::StatusOr<std::string> FindDaemon(const std::string& program) {
  std::vector<std::string> candidates;
  if (!program.empty()) {
    candidates.push_back(program);
  } else {
    std::error_code error;
    const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
    // Beside lbrctl, in a build tree, and as installed.
    for (const char* near : {"lbrd", "../daemon/lbrd", "../sbin/lbrd"}) {
      candidates.push_back((own.parent_path() / near).string());
    }
    const char* path = std::getenv("PATH");
    for (absl::string_view folder :
         absl::StrSplit(absl::NullSafeStringView(path), ':', absl::SkipEmpty())) {
      candidates.push_back(absl::StrCat(folder, "/lbrd"));
    }
    candidates.push_back("/usr/sbin/lbrd");
  }
  for (const std::string& candidate : candidates) {
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return absl::NotFoundError(
      program.empty() ? "cannot find lbrd, which reads recordings; name it with --daemon PATH"
                      : absl::StrCat(program, " is not a program that can be run"));
}

// The folder is only ours (0700), so only we can reach the socket in it.
class SocketFolder {
 public:
  SocketFolder() {
    const char* base = std::getenv("TMPDIR");
    path_ = absl::StrCat(base != nullptr && *base == '/' ? base : "/tmp", "/lbrd-XXXXXX");
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~SocketFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;
  bool ok() const { return !path_.empty(); }
  std::string socket() const { return absl::StrCat(path_, "/socket"); }

 private:
  std::string path_;
};

void End(pid_t pid, int how = SIGTERM) {
  kill(pid, how);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

absl::StatusOr<PrivateDaemon> PrivateDaemon::Start(const std::string& program, bool quiet) {
  const absl::StatusOr<std::string> found = FindDaemon(program);
  if (!found.ok()) return found.status();
  const SocketFolder folder;
  if (!folder.ok()) return absl::ErrnoToStatus(errno, "cannot make a temporary folder");
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");

  const std::string socket = folder.socket();
  const std::string ready_fd = absl::StrCat(ready[1]);
  const pid_t pid = fork();
  if (pid == 0) {
    fcntl(ready[1], F_SETFD, 0);
    // Ctrl-C is for the client, which ends its daemon itself.
    setpgid(0, 0);
    execl(found->c_str(), "lbrd", "--replay", "--socket", socket.c_str(), "--ready-fd",
          ready_fd.c_str(), "--log-level", quiet ? "error" : "info", nullptr);
    _exit(127);
  }
  close(ready[1]);
  if (pid < 0) {
    close(ready[0]);
    return absl::ErrnoToStatus(errno, "cannot start lbrd");
  }
  pollfd waiting{ready[0], POLLIN, 0};
  char byte = 0;
  const bool is_ready = poll(&waiting, 1, kReadyTimeoutMs) == 1 && read(ready[0], &byte, 1) == 1;
  close(ready[0]);
  if (!is_ready) {
    End(pid);
    return absl::UnavailableError(absl::StrCat(*found, " does not start"));
  }
  absl::StatusOr<Client> client = Client::Connect(Endpoint(socket));
  // One call makes the connection; from then on the socket's name is not needed.
  absl::Status connected = client.ok() ? client->ListSessions().status() : client.status();
  if (!connected.ok()) {
    End(pid);
    return connected;
  }
  return PrivateDaemon(pid, *std::move(client));
}

PrivateDaemon::PrivateDaemon(PrivateDaemon&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), client_(std::move(other.client_)) {}

PrivateDaemon::~PrivateDaemon() {
  if (pid_ <= 0) return;
  client_.reset();
  // It has nothing to finish or to save, and to take down what it has built takes time.
  End(pid_, SIGKILL);
}

}  // namespace lbrd::client
