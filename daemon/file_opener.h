// Opens the files that processes see, for whoever reads them: with the rights of this process, or
// with the broker's.
//
// Thread rules: implementations are thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace lbrd::daemon {

class FileOpener {
 public:
  FileOpener() = default;
  FileOpener(const FileOpener&) = delete;
  FileOpener& operator=(const FileOpener&) = delete;
  virtual ~FileOpener() = default;
  // A regular file to read, at `path` below the root of process `pid`; -1: below our own. It is the
  // caller's to close. kUnavailable: that process is gone; otherwise what the system said.
  virtual absl::StatusOr<int> OpenBinary(int32_t pid, const std::string& path) = 0;
  // /tmp/perf-NUMBER.map there. The caller looks whose it is.
  virtual absl::StatusOr<int> OpenPerfMap(int32_t pid, int32_t number) = 0;
};

// /tmp/perf-NUMBER.map
std::string PerfMapPath(int32_t number);

// With our own rights.
class OwnFileOpener : public FileOpener {
 public:
  absl::StatusOr<int> OpenBinary(int32_t pid, const std::string& path) override;
  absl::StatusOr<int> OpenPerfMap(int32_t pid, int32_t number) override;
};

}  // namespace lbrd::daemon
