// Serves the daemon's figures to Prometheus and its like, over HTTP on loopback or a UNIX socket.
//
// Clients are served one after the other, each within kPatience in all; nothing that a client sends
// is kept, and no more than kMaxHttpHeadBytes of it is read.
// Thread rules: one thread of its own, `lbrd-metrics`, which calls `page`.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/accept_loop.h"
#include "daemon/metrics_address.h"

namespace lbrd::daemon {

// A socket that listens at `address`. A UNIX socket is for its owner only (mode 0600), and replaces
// what a dead daemon left behind.
absl::StatusOr<int> ListenForMetrics(const MetricsAddress& address);

class MetricsServer {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(2);

  // Serves a socket that somebody else made, and who removes it. Owns `listener`.
  MetricsServer(int listener, std::function<std::string()> page);

 private:
  AcceptLoop accept_loop_;
};

}  // namespace lbrd::daemon
