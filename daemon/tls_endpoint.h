// Where the daemon is reached from other machines: a TCP socket, and the certificates by which both
// sides know each other.
//
// Thread rules: before the server starts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace grpc {
class ServerCredentials;
}

namespace lbrd::daemon {

// Its PEM files, as the settings name them: tls-cert, tls-key, tls-ca.
enum class TlsFile : uint32_t { kCertificate, kKey, kAuthorities };
inline constexpr uint32_t kTlsFiles = 3;
inline constexpr size_t kMaxTlsFileBytes = size_t{1} << 20;

struct TlsEndpoint {
  int listener = -1;
  std::shared_ptr<grpc::ServerCredentials> credentials;
};

// `open` gives a descriptor of each file, which is closed. Owns `listener`, also when it fails.
absl::StatusOr<TlsEndpoint> MakeTlsEndpoint(
    int listener, const std::function<absl::StatusOr<int>(TlsFile)>& open);

}  // namespace lbrd::daemon
