// Says when there is something new about a session, for who sleeps until then. To ask again and
// again costs client and daemon some 1.5 ms of CPU time each time.
//
// Thread rules: one owner; a thread of its own, which waits for the daemon until the session has
// ended or is deleted.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "client/client.h"

namespace lbrd::client {

class SessionWatch {
 public:
  SessionWatch(const Client& client, const std::string& name);
  SessionWatch(const SessionWatch&) = delete;
  SessionWatch& operator=(const SessionWatch&) = delete;
  // Leaves a thread that still waits to itself.
  ~SessionWatch();
  // Waits for the thread. Only once the session has ended.
  void Join() { thread_.join(); }

  // An eventfd: readable when the session should be looked at. -1: there is none.
  int event() const;
  // False: nothing more will be heard of it. The daemon has refused, or has gone.
  bool watching() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;  // the thread's as well
  std::thread thread_;
};

}  // namespace lbrd::client
