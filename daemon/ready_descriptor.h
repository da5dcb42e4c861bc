// --ready-fd: a descriptor that whoever started the daemon waits at. It gets a newline and is
// closed once the daemon serves.
//
// Thread rules: a value, told through one copy only.
#pragma once

namespace lbrd::daemon {

class ReadyDescriptor {
 public:
  ReadyDescriptor() = default;
  // -1: nobody waits.
  explicit ReadyDescriptor(int fd) : fd_(fd) {}

  // Once; later calls do nothing.
  void Tell();

 private:
  int fd_ = -1;
};

}  // namespace lbrd::daemon
