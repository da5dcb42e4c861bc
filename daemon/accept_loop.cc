#include "daemon/accept_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

// Out of descriptors: a connection waits meanwhile, and poll() would say so again at once.
constexpr absl::Duration kPauseWhenFull = absl::Milliseconds(100);

}  // namespace

AcceptLoop::AcceptLoop(std::string thread, int listener, std::function<void(int)> take)
    : listener_(listener), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), take_(std::move(take)) {
  // Without it nobody could end the thread. A daemon that starts without a descriptor to spare
  // cannot serve anybody.
  if (stop_ < 0) std::abort();
  // Others may accept of it too: a connection that is gone by then must not block this thread.
  fcntl(listener_, F_SETFL, fcntl(listener_, F_GETFL) | O_NONBLOCK);
  thread_ = std::thread([this, thread] {
    pthread_setname_np(pthread_self(), thread.c_str());
    Run();
  });
}

AcceptLoop::~AcceptLoop() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_, &one, sizeof(one));
  thread_.join();
  close(stop_);
  close(listener_);
}

void AcceptLoop::Run() {
  while (true) {
    pollfd entries[2] = {{listener_, POLLIN, 0}, {stop_, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    if (entries[0].revents == 0) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection >= 0) {
      take_(connection);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      absl::SleepFor(kPauseWhenFull);
    }
  }
}

}  // namespace lbrd::daemon
