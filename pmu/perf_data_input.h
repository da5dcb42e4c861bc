// The bytes of a recording: a file, or a stream that cannot go back.
//
// Thread rules: one thread reads; Interrupt() may be called from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pmu/file_window.h"

namespace lbrd::pmu {

class PerfDataInput {
 public:
  // "-": standard input, which stays open.
  static absl::StatusOr<std::unique_ptr<PerfDataInput>> Open(const std::string& path);
  PerfDataInput(const PerfDataInput&) = delete;
  PerfDataInput& operator=(const PerfDataInput&) = delete;
  ~PerfDataInput();

  // As the user knows it, for messages.
  const std::string& name() const { return name_; }
  bool seekable() const { return seekable_; }
  uint64_t size() const { return size_; }  // 0 if not seekable

  // Some bytes at the position, which moves behind them; 0 at the end. A stream blocks until there
  // are some, and fails with kCancelled once interrupted.
  absl::StatusOr<size_t> Read(std::span<std::byte> into);
  // As many bytes as there are up to into.size(). Only if seekable; what is written to the file
  // after Open() is not seen.
  absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> into);
  // A window of what ReadAt() reads, to its end or `bytes` long. Only if seekable; the window must
  // not outlive the input.
  absl::StatusOr<FileWindow> Show(uint64_t offset, size_t bytes);
  // Whether all that windows showed was in the file; kDataLoss otherwise. From any thread.
  absl::Status Intact() const;
  uint64_t position() const { return position_; }
  void Seek(uint64_t position) { position_ = position; }  // only if seekable

  // Ends a Read() that blocks, and all later ones.
  void Interrupt();

  // An error about this input: its name, then `text`.
  absl::Status Error(absl::StatusCode code, absl::string_view text) const;

 private:
  PerfDataInput(int fd, int wake_fd, bool owns_fd, std::string name);

  const int fd_;
  const int wake_fd_;  // an eventfd: what ends blocking
  const bool owns_fd_;
  const std::string name_;
  bool seekable_ = false;
  uint64_t size_ = 0;
  uint64_t position_ = 0;
  std::atomic<bool> lost_ = false;  // some of what a window showed
};

}  // namespace lbrd::pmu
