#include "daemon/ready_descriptor.h"

#include <unistd.h>

#include <utility>

#include "daemon/log.h"

namespace lbrd::daemon {

void ReadyDescriptor::Tell() {
  if (fd_ < 0) return;
  const char ready = '\n';
  if (write(fd_, &ready, 1) != 1) Log(LogLevel::kWarning, "nobody reads --ready-fd");
  close(std::exchange(fd_, -1));
}

}  // namespace lbrd::daemon
