// Accepts connections of a listening socket until it is destroyed, and hands each on.
//
// Thread rules: one thread of its own, which calls `take`.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace lbrd::daemon {

class AcceptLoop {
 public:
  // Owns the listener from here on: closes it, and leaves its path alone. `thread`: its name.
  // `take` owns the connection.
  AcceptLoop(std::string thread, int listener, std::function<void(int)> take);
  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;
  // Stops. Connections that wait to be accepted are left to whoever else has the listener.
  ~AcceptLoop();

 private:
  void Run();

  const int listener_;
  const int stop_;
  const std::function<void(int)> take_;
  std::thread thread_;
};

}  // namespace lbrd::daemon
