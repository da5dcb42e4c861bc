// Where a daemon is reached: by the UNIX socket of this machine, or on another one by mutual TLS.
//
// Thread rules: values, and functions that may be called from any thread.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace grpc {
class Channel;
}

namespace lbrd::client {

inline constexpr char kDefaultSocket[] = "/run/lbrd/lbrd.sock";
// The largest profile that is taken from a daemon.
inline constexpr int kMaxResponseBytes = 1 << 30;

struct Endpoint {
  std::string socket = kDefaultSocket;
  // "HOST:PORT" of another machine, and PEM files: by whom its certificate is issued, the client's
  // own, and the key of that. Empty: the socket.
  std::string host;
  std::string authorities;
  std::string certificate;
  std::string key;

  Endpoint() = default;
  explicit Endpoint(std::string path) : socket(std::move(path)) {}
  bool remote() const { return !host.empty(); }
};

// Whether somebody listens there: gRPC would try again and again and then say little; a plain
// connect says at once what is wrong. Waits kPatience at most for another machine. kNotFound,
// kPermissionDenied, kUnavailable, kInvalidArgument.
absl::Status TryEndpoint(const Endpoint& endpoint);

// Connects with the first call. kInvalidArgument, kNotFound: a file that cannot be read.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const Endpoint& endpoint);

}  // namespace lbrd::client
