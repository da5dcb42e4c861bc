#include "daemon/descriptor_server.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace lbrd::daemon {
namespace {

// One line, and a descriptor with it unless that is negative.
absl::Status Send(int client, std::string line, int fd) {
  line.push_back('\n');
  iovec data{line.data(), line.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  }
  // A line this short goes in one piece or not at all.
  if (sendmsg(client, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(line.size())) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "cannot send a descriptor");
}

// Up to the end of the line; empty if none came in time.
std::string ReceiveLine(int client) {
  std::string line;
  while (line.size() < DescriptorServer::kMaxLineBytes) {
    char byte;
    const ssize_t got = recv(client, &byte, 1, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != 1) return "";
    if (byte == '\n') return line;
    line.push_back(byte);
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<DescriptorServer>> DescriptorServer::Listen(
    const std::string& path, const SessionTable* sessions) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "' is too long; at most ",
                                                   sizeof(address.sun_path) - 1, " characters"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat status;
  if (lstat(path.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " exists and is not a socket; choose another --socket"));
  }
  // The daemon's own socket is ours by now, so whoever listened here is dead.
  unlink(path.c_str());
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return absl::ErrnoToStatus(errno, "cannot make a socket");
  // The mode is what keeps others out, so it must never be open, not even briefly.
  const mode_t mask = umask(0177);
  const bool bound =
      bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      listen(listener, 16) == 0;
  const int error = errno;
  umask(mask);
  const int stop = bound ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
  if (stop < 0) {
    close(listener);
    return absl::ErrnoToStatus(bound ? errno : error, absl::StrCat("cannot listen on ", path));
  }
  return std::unique_ptr<DescriptorServer>(new DescriptorServer(path, sessions, listener, stop));
}

absl::StatusOr<std::unique_ptr<DescriptorServer>> DescriptorServer::Serve(
    int listener, const SessionTable* sessions) {
  const int stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop < 0) return absl::ErrnoToStatus(errno, "cannot serve descriptors");
  return std::unique_ptr<DescriptorServer>(new DescriptorServer("", sessions, listener, stop));
}

DescriptorServer::DescriptorServer(std::string path, const SessionTable* sessions, int listener,
                                   int stop)
    : path_(std::move(path)), sessions_(*sessions), listener_(listener), stop_(stop) {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "lbrd-fd");
    Run();
  });
}

DescriptorServer::~DescriptorServer() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_, &one, sizeof(one));
  thread_.join();
  close(listener_);
  close(stop_);
  if (!path_.empty()) unlink(path_.c_str());
}

void DescriptorServer::Run() {
  while (true) {
    pollfd entries[2] = {{listener_, POLLIN, 0}, {stop_, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    if (entries[0].revents == 0) continue;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    ServeClient(client);
    close(client);
  }
}

void DescriptorServer::ServeClient(int client) const {
  const timeval patience = absl::ToTimeval(kPatience);
  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const std::string line = ReceiveLine(client);
  if (line.empty()) return;
  const absl::Status answered = Answer(client, line);
  if (answered.ok()) return;
  Send(client, absl::StrCat("error ", static_cast<int>(answered.code()), " ", answered.message()),
       -1)
      .IgnoreError();
}

absl::Status DescriptorServer::Answer(int client, const std::string& line) const {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  int32_t cpu = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &cpu)) {
    return absl::InvalidArgumentError("a request is a session's name and a CPU's number");
  }
  const absl::StatusOr<std::shared_ptr<Session>> session = sessions_.Find(words[0]);
  if (!session.ok()) return session.status();
  return (*session)->Lend(cpu, [client](const pmu::LentEvent& event) {
    return Send(client,
                absl::StrFormat("ok %d %#x %#x", event.ring_bytes, event.attr.read_format,
                                event.attr.sample_type),
                event.fd);
  });
}

}  // namespace lbrd::daemon
