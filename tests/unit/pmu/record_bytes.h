// Records built word by word, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "pmu/abi.h"

namespace lbrd::pmu {

// A record in memory of exactly its size, so that a sanitizer sees every read behind its end.
class RecordBytes {
 public:
  RecordBytes(uint32_t type, uint16_t misc) : bytes_(sizeof(perf_event_header)) {
    perf_event_header header{.type = type, .misc = misc, .size = 0};
    memcpy(bytes_.data(), &header, sizeof(header));
  }

  template <typename T>
  RecordBytes& Put(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(value));
    memcpy(bytes_.data() + at, &value, sizeof(value));
    return *this;
  }
  RecordBytes& U16(uint16_t value) { return Put(value); }
  RecordBytes& U32(uint32_t value) { return Put(value); }
  RecordBytes& U64(uint64_t value) { return Put(value); }
  RecordBytes& U64s(std::initializer_list<uint64_t> values) {
    for (const uint64_t value : values) Put(value);
    return *this;
  }
  RecordBytes& Bytes(absl::string_view bytes) {
    for (const char byte : bytes) bytes_.push_back(static_cast<std::byte>(byte));
    return *this;
  }
  // NUL-terminated and padded to words, as the kernel writes names.
  RecordBytes& Text(absl::string_view text) {
    Bytes(text);
    do {
      bytes_.push_back(std::byte{0});
    } while (bytes_.size() % 8 != 0);
    return *this;
  }

  size_t size() const { return bytes_.size(); }
  // All that has been put, as a stretch of a recording.
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> bytes = bytes_;
    const uint16_t size = static_cast<uint16_t>(bytes.size());
    memcpy(bytes.data() + offsetof(perf_event_header, size), &size, sizeof(size));
    return bytes;
  }

  // The record, or as much of it as `size` says. Valid until the next call.
  const perf_event_header* Header() { return Header(bytes_.size()); }
  const perf_event_header* Header(size_t size) {
    exact_.reset(new std::byte[size]);  // aligned for any type
    memcpy(exact_.get(), bytes().data(), size);
    auto* header = reinterpret_cast<perf_event_header*>(exact_.get());
    header->size = static_cast<uint16_t>(size);
    return header;
  }

 private:
  std::vector<std::byte> bytes_;
  std::unique_ptr<std::byte[]> exact_;
};

}  // namespace lbrd::pmu
