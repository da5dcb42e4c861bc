// Whether a process is wholly a user's: what that user could read of it, or trace, by own rights.
#pragma once

#include <cstdint>

#include "pmu/ownership.h"

namespace lbrd::daemon {

// A process or thread, held by its folder in /proc: that stands for it alone, also when its number
// has gone to another one. Two looks that find it there enclose a time in which the number was its.
class HeldProcess {
 public:
  explicit HeldProcess(int32_t pid);
  ~HeldProcess();
  HeldProcess(const HeldProcess&) = delete;
  HeldProcess& operator=(const HeldProcess&) = delete;

  // kOwn: its real, effective, saved and file system users are all `uid`, it has no capabilities,
  // and it is dumpable: it did not get other rights by what it executed, and has not hidden itself.
  // Otherwise kOther; kGone: it has ended.
  pmu::Ownership OwnershipBy(uint32_t uid) const;

 private:
  const int folder_;  // -1: there is none
};

}  // namespace lbrd::daemon
