// Messages of a UNIX socket with at most one descriptor beside them: SCM_RIGHTS, unix(7).
//
// Thread rules: any, as for the socket.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

// Sends all of `bytes`, and `fd` with it unless that is negative. False: errno says why.
bool SendMessage(int socket, absl::string_view bytes, int fd);
// Bytes received, 0 at the end, -1 with errno. *fd: the first descriptor that came, close-on-exec,
// or -1; others that came are closed. A message longer than `bytes` is cut.
ssize_t ReceiveMessage(int socket, std::span<std::byte> bytes, int* fd);

}  // namespace lbrd::daemon
