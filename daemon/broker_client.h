// The engine's side of its broker: asks, waits, and gets an answer, a descriptor or both.
//
// A broker that is gone takes the engine with it: this process then ends (_exit), since nobody
// would start another one beside it. Thread rules: thread-safe; who asks at the same time waits for
// the others.
#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/broker_protocol.h"
#include "daemon/file_opener.h"

namespace lbrd::daemon {

class BrokerClient {
 public:
  // Owns `channel`.
  explicit BrokerClient(int channel) : channel_(channel) {}
  ~BrokerClient();
  BrokerClient(const BrokerClient&) = delete;
  BrokerClient& operator=(const BrokerClient&) = delete;

  struct Reply {
    int error = 0;  // an errno
    int fd = -1;    // the caller's to close
    std::string payload;
  };
  // `fd` (-1: none) goes with it, and stays the caller's.
  Reply Ask(BrokerRequest request, int fd = -1) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const int channel_;
  absl::Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
};

// Files by the broker's rights.
class BrokerFileOpener : public FileOpener {
 public:
  explicit BrokerFileOpener(BrokerClient* broker) : broker_(*broker) {}
  absl::StatusOr<int> OpenBinary(int32_t pid, const std::string& path) override;
  absl::StatusOr<int> OpenPerfMap(int32_t pid, int32_t number) override;

 private:
  BrokerClient& broker_;
};

}  // namespace lbrd::daemon
