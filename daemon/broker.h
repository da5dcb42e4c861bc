// The broker's side of a request: judges it (broker_policy.h), does it, answers.
//
// It reads nothing of what it opens but the first four bytes of a binary. A request that makes no
// sense or is refused is answered with an errno and logged, kMaxRefusalsLogged a second.
// Thread rules: one owner. A request may wait as long as a file system does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/broker_policy.h"
#include "daemon/broker_protocol.h"
#include "daemon/file_opener.h"
#include "daemon/tls_endpoint.h"

namespace lbrd::daemon {

class Broker {
 public:
  static constexpr int kMaxRefusalsLogged = 10;
  // An engine that asks more often is answered more slowly: it never needs to.
  static constexpr double kRequestsPerSecond = 20'000;
  static constexpr double kBurst = 200'000;

  struct Options {
    std::string config_path;                       // empty: there is none to open
    std::array<std::string, kTlsFiles> tls_files;  // the same
    // What a message for systemd is passed on to.
    std::function<void(absl::string_view)> notify;
  };
  explicit Broker(Options options);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // One request of `channel`, answered there. False: the engine has closed its end, or will not
  // take its answer.
  bool Serve(int channel);
  // What the engine held is let go: it has ended.
  void Forget();

  struct Answered {
    absl::Status status;
    int fd = -1;  // the caller's to close
    std::string payload;
    int error = 0;  // what the kernel said; 0: ErrnoOf(status)
  };
  // A message as it came, with the descriptor that came with it (-1: none), which stays the
  // caller's. *id: the request's, 0 where it could not be told.
  Answered Answer(std::span<const std::byte> message, int descriptor, uint64_t* id);

 private:
  Answered Do(const BrokerRequest& request, int descriptor);
  Answered OpenEvent(const BrokerRequest& request, int descriptor);
  Answered OpenBinary(const BrokerRequest& request);
  Answered OpenPerfMap(const BrokerRequest& request);
  Answered OpenCgroup(const BrokerRequest& request);
  Answered HoldRing(const BrokerRequest& request, int descriptor);
  void SlowDown();
  void LogRefusal(const absl::Status& why);

  const Options options_;
  const EventTypes types_;
  OwnFileOpener files_;
  void* ring_ = nullptr;  // held
  uint64_t ring_bytes_ = 0;
  double budget_ = kBurst;
  absl::Time budget_at_;
  int logged_ = 0;
  absl::Time logged_at_;
};

// The errno that stands for a status of this house.
int ErrnoOf(const absl::Status& status);

}  // namespace lbrd::daemon
