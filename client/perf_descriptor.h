// The perf descriptor of a session's sampling event on one CPU, from a daemon on this machine.
//
// It keeps working when the daemon's session, or the daemon, is gone: counts can be read to the
// end. It is for reading; what the kernel enforces of that, and what not, stands in
// daemon/descriptor_server.h.
//
// Thread rules: one thread, or externally synchronized.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lbrd::client {

class PerfDescriptor {
 public:
  // Asks the daemon whose socket is `socket`. `session`: its name. Errors carry the daemon's words.
  static absl::StatusOr<PerfDescriptor> Fetch(const std::string& socket, const std::string& session,
                                              int32_t cpu);
  PerfDescriptor(PerfDescriptor&& other) noexcept;
  PerfDescriptor& operator=(PerfDescriptor&&) = delete;
  ~PerfDescriptor();

  int fd() const { return fd_; }
  // PERF_FORMAT_… and PERF_SAMPLE_… of what is read.
  uint64_t read_format() const { return read_format_; }
  uint64_t sample_type() const { return sample_type_; }

  // What read(2) gives: the count, then what read_format() says.
  absl::StatusOr<std::vector<uint64_t>> ReadCounts() const;

  // Maps the ring for reading. Once.
  absl::Status MapRing();
  // The records that the daemon has not taken yet, whole, in the kernel's layout, 8-byte aligned.
  // It goes on taking them: what is seen here it sees as well, and between two calls some pass by.
  // kUnavailable: the kernel wrote over them while they were copied; ask again.
  absl::StatusOr<std::vector<uint64_t>> CopyRecords() const;

 private:
  PerfDescriptor(int fd, uint64_t ring_bytes, uint64_t read_format, uint64_t sample_type)
      : fd_(fd), ring_bytes_(ring_bytes), read_format_(read_format), sample_type_(sample_type) {}

  int fd_;
  const uint64_t ring_bytes_;
  const uint64_t read_format_;
  const uint64_t sample_type_;
  void* ring_ = nullptr;  // a control page, then ring_bytes_
};

}  // namespace lbrd::client
