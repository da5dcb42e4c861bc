// Reads forward through bytes that may be anything: nothing is read beyond the end, and what does
// not fit leaves the reader not ok, at the end. Little-endian, as all that this project reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace lbrd::unwind {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes, size_t at = 0)
      : bytes_(bytes), at_(at <= bytes.size() ? at : bytes.size()), ok_(at <= bytes.size()) {}

  template <typename T>
  T Read() {
    T value{};
    if (bytes_.size() - at_ < sizeof(T)) {
      Fail();
      return value;
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  // LEB128. Bits beyond the 64th are dropped, as all readers of DWARF do; an encoding longer than
  // kMaxLebBytes fails.
  uint64_t ReadUleb() {
    uint64_t value = 0;
    for (unsigned i = 0; i < kMaxLebBytes; ++i) {
      const auto byte = Read<uint8_t>();
      if (!ok_) return 0;
      if (7 * i < 64) value |= uint64_t{byte & 0x7fu} << (7 * i);
      if ((byte & 0x80) == 0) return value;
    }
    Fail();
    return 0;
  }
  int64_t ReadSleb() {
    uint64_t value = 0;
    for (unsigned i = 0; i < kMaxLebBytes; ++i) {
      const auto byte = Read<uint8_t>();
      if (!ok_) return 0;
      if (7 * i < 64) value |= uint64_t{byte & 0x7fu} << (7 * i);
      if ((byte & 0x80) == 0) {
        const unsigned bits = 7 * (i + 1);
        if (bits < 64 && (byte & 0x40) != 0) value |= ~uint64_t{0} << bits;
        return static_cast<int64_t>(value);
      }
    }
    Fail();
    return 0;
  }

  // The next `size` bytes; empty and not ok when there are fewer.
  std::span<const std::byte> ReadBytes(uint64_t size) {
    if (size > bytes_.size() - at_) {
      Fail();
      return {};
    }
    const auto result = bytes_.subspan(at_, static_cast<size_t>(size));
    at_ += static_cast<size_t>(size);
    return result;
  }

  bool ok() const { return ok_; }
  bool AtEnd() const { return at_ == bytes_.size(); }
  size_t at() const { return at_; }

 private:
  static constexpr unsigned kMaxLebBytes = 16;

  void Fail() {
    ok_ = false;
    at_ = bytes_.size();
  }

  std::span<const std::byte> bytes_;
  size_t at_;
  bool ok_;
};

}  // namespace lbrd::unwind
