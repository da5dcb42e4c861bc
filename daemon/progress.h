// How far a thread has come, for who watches that it goes on (daemon/health).
#pragma once

#include <cstdint>
#include <string>

namespace lbrd::daemon {

struct Progress {
  std::string thread;  // "lbrd-read"
  uint64_t steps = 0;  // grows as long as the thread goes on
  bool busy = false;   // it has something to do, so its steps must grow
};

}  // namespace lbrd::daemon
