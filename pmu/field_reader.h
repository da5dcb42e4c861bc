// Takes fields from the front of a stretch of bytes that nobody vouches for.
//
// The first field that does not fit makes the reader fail for good: what is read from then on is
// zero or empty, so a sequence of fields needs one check of ok() at its end. Borrows the bytes;
// copying a reader copies the position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "absl/strings/string_view.h"

namespace lbrd::pmu {

class FieldReader {
 public:
  FieldReader(const std::byte* begin, const std::byte* end) : next_(begin), end_(end) {}
  explicit FieldReader(std::span<const std::byte> bytes)
      : FieldReader(bytes.data(), bytes.data() + bytes.size()) {}

  bool ok() const { return ok_; }
  uint64_t left() const { return static_cast<uint64_t>(end_ - next_); }

  uint64_t U64() { return Scalar<uint64_t>(); }
  uint32_t U32() { return Scalar<uint32_t>(); }
  uint16_t U16() { return Scalar<uint16_t>(); }
  int32_t S32() { return Scalar<int32_t>(); }

  // `count` items in place; T must be a type of plain memory. Fails where T would be misaligned.
  template <typename T>
  std::span<const T> Items(uint64_t count) {
    const bool aligned = reinterpret_cast<uintptr_t>(next_) % alignof(T) == 0;
    if (!ok_ || !aligned || count > left() / sizeof(T)) {
      Fail();
      return {};
    }
    const std::span<const T> items(reinterpret_cast<const T*>(next_), count);
    next_ += count * sizeof(T);
    return items;
  }

  std::span<const std::byte> Bytes(uint64_t count) { return Items<std::byte>(count); }

  // Skips `count` words of 8 bytes.
  void SkipWords(uint64_t count) {
    constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max() / sizeof(uint64_t);
    Bytes(count > kMost ? std::numeric_limits<uint64_t>::max() : count * sizeof(uint64_t));
  }

  // All that is left, as a string that ends at its first NUL.
  absl::string_view Text() {
    if (left() == 0) return {};
    const char* text = reinterpret_cast<const char*>(next_);
    const size_t length = strnlen(text, left());
    next_ = end_;
    return absl::string_view(text, length);
  }

 private:
  template <typename T>
  T Scalar() {
    T value = 0;
    if (left() < sizeof(T)) [[unlikely]] {  // nothing is left after a failure
      Fail();
      return value;
    }
    memcpy(&value, next_, sizeof(T));
    next_ += sizeof(T);
    return value;
  }

  void Fail() {
    ok_ = false;
    next_ = end_;
  }

  const std::byte* next_;
  const std::byte* end_;
  bool ok_ = true;
};

}  // namespace lbrd::pmu
