// The kernel as the engine has it: what takes privileges, it asks the broker for; everything else,
// also all that is done with what the broker opened, is its own.
//
// Thread rules: thread-safe.
#pragma once

#include <string>

#include "absl/synchronization/mutex.h"
#include "daemon/broker_client.h"
#include "pmu/linux_kernel.h"

namespace lbrd::daemon {

class BrokerKernel : public pmu::LinuxKernel {
 public:
  // `hold_rings`: RLIMIT_MEMLOCK is too low for rings, and the broker may lock them instead.
  BrokerKernel(BrokerClient* broker, bool hold_rings) : broker_(*broker), hold_rings_(hold_rings) {}

  // pid 0 is the calling thread, as for the system call.
  int OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                unsigned long flags) override;
  int OpenFolder(const std::string& path) override;
  void* MapRing(int fd, uint64_t data_bytes, int* error) override;
  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) override;
  // Of /proc/PID/exe the broker is asked.
  absl::StatusOr<std::string> ReadLink(const std::string& path) override;
  bool rings_unbound() const override { return hold_rings_; }

 private:
  BrokerClient& broker_;
  const bool hold_rings_;
  absl::Mutex ring_mutex_;  // from holding a ring to releasing it; before BrokerClient's
};

}  // namespace lbrd::daemon
