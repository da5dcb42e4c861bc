#include "client/perf_descriptor.h"

#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::client {
namespace {

constexpr size_t kMaxAnswerBytes = 4096;

uint64_t PageBytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

absl::StatusOr<int> ConnectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "' is too long"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot make a socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int error = errno;
  close(fd);
  return absl::ErrnoToStatus(
      error, absl::StrCat("cannot connect to ", path, "; is lbrd running, and may you use it?"));
}

// The answer's line without its end; *fd: the descriptor that came with it, or -1.
absl::StatusOr<std::string> Receive(int from, int* fd) {
  *fd = -1;
  std::string answer;
  while (answer.empty() || answer.back() != '\n') {
    char text[kMaxAnswerBytes];
    iovec data{text, sizeof(text)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    const cmsghdr* header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (header != nullptr && header->cmsg_type == SCM_RIGHTS && *fd < 0) {
      std::memcpy(fd, CMSG_DATA(header), sizeof(*fd));
    }
    if (got <= 0 || answer.size() + static_cast<size_t>(got) > kMaxAnswerBytes) {
      if (*fd >= 0) close(*fd);
      return absl::UnavailableError("the daemon gave no answer to a request for a descriptor");
    }
    answer.append(text, static_cast<size_t>(got));
  }
  answer.pop_back();
  return answer;
}

}  // namespace

absl::StatusOr<PerfDescriptor> PerfDescriptor::Fetch(const std::string& socket,
                                                     const std::string& session, int32_t cpu) {
  const absl::StatusOr<int> connection = ConnectTo(socket + ".fd");
  if (!connection.ok()) return connection.status();
  const std::string request = absl::StrCat(session, " ", cpu, "\n");
  if (send(*connection, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    close(*connection);
    return absl::UnavailableError("cannot ask the daemon for a descriptor");
  }
  int fd = -1;
  const absl::StatusOr<std::string> answer = Receive(*connection, &fd);
  close(*connection);
  if (!answer.ok()) return answer.status();
  const std::vector<std::string> words = absl::StrSplit(*answer, ' ');
  uint64_t ring_bytes = 0;
  uint64_t read_format = 0;
  uint64_t sample_type = 0;
  if (words[0] == "ok" && words.size() == 4 && absl::SimpleAtoi(words[1], &ring_bytes) &&
      absl::SimpleHexAtoi(words[2], &read_format) && absl::SimpleHexAtoi(words[3], &sample_type) &&
      fd >= 0) {
    return PerfDescriptor(fd, ring_bytes, read_format, sample_type);
  }
  if (fd >= 0) close(fd);
  int code = 0;
  if (words[0] != "error" || words.size() < 3 || !absl::SimpleAtoi(words[1], &code)) {
    return absl::InternalError(absl::StrCat("not an answer of lbrd: '", *answer, "'"));
  }
  return absl::Status(static_cast<absl::StatusCode>(code),
                      answer->substr(words[0].size() + words[1].size() + 2));
}

PerfDescriptor::PerfDescriptor(PerfDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      ring_bytes_(other.ring_bytes_),
      read_format_(other.read_format_),
      sample_type_(other.sample_type_),
      ring_(std::exchange(other.ring_, nullptr)) {}

PerfDescriptor::~PerfDescriptor() {
  if (ring_ != nullptr) munmap(ring_, PageBytes() + ring_bytes_);
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::vector<uint64_t>> PerfDescriptor::ReadCounts() const {
  std::vector<uint64_t> words(8);
  const ssize_t bytes = read(fd_, words.data(), words.size() * sizeof(uint64_t));
  if (bytes < 0) return absl::ErrnoToStatus(errno, "cannot read the event's counts");
  words.resize(static_cast<size_t>(bytes) / sizeof(uint64_t));
  return words;
}

absl::Status PerfDescriptor::MapRing() {
  if (ring_ != nullptr) return absl::OkStatus();
  void* ring = mmap(nullptr, PageBytes() + ring_bytes_, PROT_READ, MAP_SHARED, fd_, 0);
  if (ring == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map the event's ring");
  ring_ = ring;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> PerfDescriptor::CopyRecords() const {
  if (ring_ == nullptr) return absl::FailedPreconditionError("the ring is not mapped");
  const auto* control = static_cast<const perf_event_mmap_page*>(ring_);
  // A: pairs with the kernel's barrier between writing records and storing data_head. The tail,
  // read before it, is a record's begin whatever the daemon does meanwhile.
  const uint64_t tail = __atomic_load_n(&control->data_tail, __ATOMIC_ACQUIRE);
  const uint64_t head = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
  std::vector<uint64_t> words;
  const auto* data =
      reinterpret_cast<const uint64_t*>(static_cast<const std::byte*>(ring_) + PageBytes());
  if (head - tail > ring_bytes_) return absl::UnavailableError("the ring moved on; ask again");
  words.reserve((head - tail) / 8);
  for (uint64_t at = tail; at < head; at += 8) {
    // Acquire, so that the tail is looked at again after all of them.
    words.push_back(__atomic_load_n(&data[(at & (ring_bytes_ - 1)) / 8], __ATOMIC_ACQUIRE));
  }
  // What was copied is whole only if the kernel was not given its room meanwhile, and used it: it
  // writes no further than a ring's length past the tail.
  if (__atomic_load_n(&control->data_tail, __ATOMIC_ACQUIRE) != tail) {
    return absl::UnavailableError("the daemon took the records meanwhile; ask again");
  }
  return words;
}

}  // namespace lbrd::client
