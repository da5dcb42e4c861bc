#include "daemon/descriptor_server.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "daemon/descriptor_message.h"

namespace lbrd::daemon {
namespace {

// One line, and a descriptor with it unless that is negative.
absl::Status Send(int client, std::string line, int fd) {
  line.push_back('\n');
  // A line this short goes in one piece or not at all.
  if (SendMessage(client, line, fd)) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot send a descriptor");
}

void Refuse(int client, const absl::Status& why) {
  Send(client, absl::StrCat("error ", static_cast<int>(why.code()), " ", why.message()), -1)
      .IgnoreError();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DescriptorServer>> DescriptorServer::Serve(
    int listener, const SessionTable* sessions, const Authenticator* authenticator, Audit* audit) {
  // A client that left between poll and accept must not keep us waiting for the next one.
  fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
  const int stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop < 0) {
    close(listener);
    return absl::ErrnoToStatus(errno, "cannot make an eventfd");
  }
  return std::unique_ptr<DescriptorServer>(
      new DescriptorServer(sessions, authenticator, audit, listener, stop));
}

DescriptorServer::DescriptorServer(const SessionTable* sessions, const Authenticator* authenticator,
                                   Audit* audit, int listener, int stop)
    : sessions_(*sessions),
      authenticator_(*authenticator),
      audit_(*audit),
      listener_(listener),
      stop_(stop) {
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
}

void DescriptorServer::Run() {
  std::vector<Client> clients;
  std::vector<pollfd> entries;
  while (true) {
    entries.assign({{listener_, POLLIN, 0}, {stop_, POLLIN, 0}});
    absl::Time next = absl::InfiniteFuture();
    for (const Client& client : clients) {
      entries.push_back({client.fd, POLLIN, 0});
      next = std::min(next, client.deadline);
    }
    const absl::Duration left = std::clamp(next - absl::Now(), absl::ZeroDuration(), kPatience);
    // A millisecond more than what is left of it, so that it has passed then.
    const int timeout_ms =
        clients.empty() ? -1 : 1 + static_cast<int>(absl::ToInt64Milliseconds(left));
    if (poll(entries.data(), entries.size(), timeout_ms) < 0 && errno != EINTR) break;
    if (entries[1].revents != 0) break;
    std::vector<Client> waiting;
    for (size_t i = 0; i < clients.size(); ++i) {
      const bool done =
          (entries[i + 2].revents != 0 && Serve(&clients[i])) || clients[i].deadline <= absl::Now();
      if (done) {
        close(clients[i].fd);
      } else {
        waiting.push_back(std::move(clients[i]));
      }
    }
    clients = std::move(waiting);
    if (entries[0].revents != 0) Accept(&clients);
  }
  for (const Client& client : clients) close(client.fd);
}

void DescriptorServer::Accept(std::vector<Client>* clients) const {
  const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    // Out of descriptors: who waits stays in the queue, and would wake us at once again.
    if (errno == EMFILE || errno == ENFILE) absl::SleepFor(absl::Milliseconds(100));
    return;
  }
  absl::StatusOr<Identity> who = authenticator_.IdentifySocket(fd);
  absl::Status refused = who.status();
  if (who.ok()) {
    size_t of_user = 0;
    for (const Client& client : *clients) of_user += client.who.uid == who->uid;
    if (clients->size() >= kMaxClients || (!who->admin() && of_user >= kMaxClientsOfUser)) {
      refused = OverQuota(rule::kQuotaConnections, "too many ask for descriptors; wait a second");
    }
  }
  if (!refused.ok()) {
    Refuse(fd, refused);
    close(fd);
    return;
  }
  clients->push_back({.fd = fd, .who = *std::move(who), .deadline = absl::Now() + kPatience});
}

bool DescriptorServer::Serve(Client* client) const {
  char text[kMaxLineBytes];
  const ssize_t got = recv(client->fd, text, kMaxLineBytes - client->line.size(), 0);
  if (got < 0) return errno != EINTR && errno != EAGAIN;
  if (got == 0) return true;
  client->line.append(text, static_cast<size_t>(got));
  const size_t end = client->line.find('\n');
  if (end == std::string::npos) return client->line.size() >= kMaxLineBytes;
  client->line.resize(end);
  const absl::Status answered = Answer(*client);
  audit_.Other(client->who, "lend", client->line, answered);
  if (!answered.ok()) Refuse(client->fd, answered);
  return true;
}

absl::Status DescriptorServer::Answer(const Client& client) const {
  const std::vector<std::string> words = absl::StrSplit(client.line, ' ');
  int32_t cpu = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &cpu)) {
    return absl::InvalidArgumentError("a request is a session's name and a CPU's number");
  }
  const absl::StatusOr<std::shared_ptr<Session>> session =
      sessions_.Find(ScopeOf(client.who) + words[0]);
  if (!session.ok()) return NoSuchSession(words[0]);
  if (absl::Status may =
          AuthorizeDescriptor(client.who, (*session)->spec(), (*session)->shares_events());
      !may.ok()) {
    return may;
  }
  return (*session)->Lend(cpu, [&client](const pmu::LentEvent& event) {
    return Send(client.fd,
                absl::StrFormat("ok %d %#x %#x", event.ring_bytes, event.attr.read_format,
                                event.attr.sample_type),
                event.fd);
  });
}

}  // namespace lbrd::daemon
