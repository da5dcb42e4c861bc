// A ByteSource over bytes in memory: made up by a test, or a whole file read once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "unwind/file_source.h"

namespace lbrd::unwind {

class MemoryBytes : public ByteSource {
 public:
  explicit MemoryBytes(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  MemoryBytes(const void* data, size_t size)
      : bytes_(static_cast<const std::byte*>(data), static_cast<const std::byte*>(data) + size) {}

  // Null: the file cannot be read.
  static std::shared_ptr<MemoryBytes> OfFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) return nullptr;
    std::vector<std::byte> bytes(static_cast<size_t>(file.tellg()));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file) return nullptr;
    return std::make_shared<MemoryBytes>(std::move(bytes));
  }

  uint64_t size() const override { return bytes_.size(); }

  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      return absl::OutOfRangeError("beyond the end");
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return absl::OkStatus();
  }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace lbrd::unwind
