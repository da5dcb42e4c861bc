// A stretch of a file in memory, without a copy of it.
//
// What a mapping has that a read has not: its bytes may change while they are looked at, and what
// the file loses is lost in the mapping too. So whoever parses copies first, and looks in place
// only at what no size or offset is taken from. For pages that are lost (a file that was made
// shorter, a disk that fails) the kernel sends SIGBUS: with the first window the process gets a
// handler, which puts a page of zeros there and notes it. A SIGBUS of anything else goes where it
// went before.
//
// Resources: kMost windows in a process, of the pages of the file's cache.
//
// Thread rules: a window belongs to one thread at a time; its bytes may be read from any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace lbrd::pmu {

class FileWindow {
 public:
  static constexpr size_t kMost = 256;

  FileWindow() = default;
  FileWindow(FileWindow&& other) noexcept;
  FileWindow& operator=(FileWindow&& other) noexcept;
  ~FileWindow() { Close(); }

  // `offset` divides by the size of a page, and the file has that many bytes; `lost` outlives the
  // window, and becomes true where some of it are not there any more. kResourceExhausted: there are
  // kMost. Other errors: the file cannot be mapped.
  static absl::StatusOr<FileWindow> Map(int fd, uint64_t offset, size_t bytes,
                                        std::atomic<bool>* lost);

  std::span<const std::byte> bytes() const { return {begin_, size_}; }

 private:
  void Close();

  const std::byte* begin_ = nullptr;
  size_t size_ = 0;
  size_t slot_ = 0;  // in the table that the handler looks at
};

}  // namespace lbrd::pmu
