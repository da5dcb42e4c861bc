#include "client/session_watch.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>

namespace lbrd::client {

struct SessionWatch::State {
  State() : event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (event >= 0) close(event);
  }
  void Tell() const { eventfd_write(event, 1); }

  const int event;
  std::atomic<bool> watching = true;
};

SessionWatch::SessionWatch(const Client& client, const std::string& name)
    : state_(std::make_shared<State>()), thread_([client, name, state = state_] {
        const absl::Status status = client.WatchSessions(
            name, /*hold=*/false,
            [&state](const v1::WatchSessionsResponse&) {
              state->Tell();
              return true;
            },
            [&state] { state->Tell(); });
        state->watching = status.ok();
        state->Tell();
      }) {}

SessionWatch::~SessionWatch() {
  if (thread_.joinable()) thread_.detach();
}

int SessionWatch::event() const { return state_->event; }

bool SessionWatch::watching() const { return state_->watching && state_->event >= 0; }

}  // namespace lbrd::client
