// A stretch of a file whose bytes are read in parts, as they are asked for, and stay: what was
// asked for once may be pointed to. What nobody asks for takes no memory, only addresses.
//
// Memory: a part for each that was read; the operating system gives pages when they are written.
// Thread rules: one user at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "unwind/file_source.h"

namespace lbrd::unwind {

class BytesInParts {
 public:
  static constexpr size_t kPartBytes = 4096;

  BytesInParts() = default;
  // The stretch need not be within the file: what is not there cannot be had.
  BytesInParts(std::shared_ptr<const ByteSource> source, uint64_t offset, size_t size)
      : source_(std::move(source)),
        offset_(offset),
        size_(size),
        bytes_(std::make_unique_for_overwrite<std::byte[]>(size)),
        has_(size / kPartBytes + 1) {}

  size_t size() const { return size_; }
  // Only what has been asked for may be looked at.
  std::span<const std::byte> bytes() const { return {bytes_.get(), size_}; }
  size_t parts_read() const { return parts_read_; }

  // False: it is beyond the end, or cannot be read.
  bool Ask(size_t at, size_t size) {
    if (at > size_ || size > size_ - at) return false;
    for (size_t part = at / kPartBytes; part * kPartBytes < at + size; ++part) {
      if (!has_[part] && !Read(part)) return false;
    }
    return true;
  }

 private:
  bool Read(size_t part) {
    const size_t begin = part * kPartBytes;
    const std::span<std::byte> out(bytes_.get() + begin, std::min(kPartBytes, size_ - begin));
    if (!source_->ReadAt(offset_ + begin, out).ok()) return false;
    has_[part] = true;
    ++parts_read_;
    return true;
  }

  std::shared_ptr<const ByteSource> source_;
  uint64_t offset_ = 0;
  size_t size_ = 0;
  std::unique_ptr<std::byte[]> bytes_;
  std::vector<bool> has_;  // by part
  size_t parts_read_ = 0;
};

}  // namespace lbrd::unwind
