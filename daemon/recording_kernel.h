// The kernel for a daemon that reads recordings: its names are read ahead.
//
// The kernel takes a tenth of a second to write /proc/kallsyms, as long as it takes to read a
// recording of some hundred megabytes. It is begun when the daemon begins, and is mostly there when
// a recording of this kernel is opened. Who opens another one ends it.
//
// Memory: the file's text, until it is taken: at most kMaxBytes. Thread rules: as pmu::Kernel; one
// thread of its own, which ends with the object within one read.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <string>

#include "pmu/linux_kernel.h"

namespace lbrd::daemon {

class RecordingKernel : public pmu::LinuxKernel {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

  // `path`: of the file that is read ahead.
  explicit RecordingKernel(std::string path = "/proc/kallsyms");
  ~RecordingKernel() override;

  // The first call for the file waits for what is read ahead; later ones read it again.
  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) override;

 private:
  absl::StatusOr<std::string> ReadAhead() const;

  const std::string path_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> taken_ = false;
  std::future<absl::StatusOr<std::string>> text_;
};

}  // namespace lbrd::daemon
