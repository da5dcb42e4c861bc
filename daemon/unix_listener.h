// A listening UNIX socket at a path.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

// 0600: for whoever runs the daemon; 0666: for everybody, where a policy decides what each may do.
inline constexpr mode_t kOwnerOnly = 0600;
inline constexpr mode_t kEverybody = 0666;

// Listens at `path`; its folder is made (0755) if it is missing. A socket that a dead daemon left
// behind is replaced. The descriptor is non-blocking and close-on-exec. kAlreadyExists: a live
// daemon listens; kFailedPrecondition: the path is not a socket; kInvalidArgument: it is too long;
// kPermissionDenied.
absl::StatusOr<int> ListenOnUnixSocket(const std::string& path, mode_t mode);

}  // namespace lbrd::daemon
