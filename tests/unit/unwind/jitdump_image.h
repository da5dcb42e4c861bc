// jitdump files made up by tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lbrd::unwind {

class JitDumpImage {
 public:
  explicit JitDumpImage(uint64_t flags = 0) {
    Put<uint32_t>(0x4a695444);
    for (const uint32_t word : {1u, 40u, 62u, 0u, 1234u}) Put(word);
    Put<uint64_t>(0);
    Put(flags);
  }
  JitDumpImage& Load(uint64_t time, uint64_t address, const std::string& name,
                     const std::string& code, uint64_t index = 0) {
    std::string payload;
    Append<uint32_t>(1234, payload);
    Append<uint32_t>(1234, payload);
    for (const uint64_t word : {address, address, uint64_t{code.size()}, index}) {
      Append(word, payload);
    }
    return Record(0, time, payload + name + '\0' + code);
  }
  JitDumpImage& Move(uint64_t time, uint64_t from, uint64_t to, uint64_t size) {
    std::string payload;
    Append<uint64_t>(0, payload);
    for (const uint64_t word : {to, from, to, size, uint64_t{0}}) Append(word, payload);
    return Record(1, time, payload);
  }
  struct Line {
    uint64_t address;
    uint32_t line;
    std::string file;
  };
  JitDumpImage& DebugInfo(uint64_t time, uint64_t address, const std::vector<Line>& lines) {
    std::string payload;
    Append(address, payload);
    Append(uint64_t{lines.size()}, payload);
    for (const Line& line : lines) {
      Append(line.address, payload);
      Append(line.line, payload);
      Append(0u, payload);
      payload += line.file + '\0';
    }
    return Record(2, time, payload);
  }
  JitDumpImage& Close(uint64_t time) { return Record(3, time, ""); }
  JitDumpImage& Record(uint32_t id, uint64_t time, const std::string& payload) {
    Put(id);
    Put(static_cast<uint32_t>(16 + payload.size()));
    Put(time);
    bytes_ += payload;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  template <typename T>
  static void Append(T value, std::string& out) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <typename T>
  void Put(T value) {
    Append(value, bytes_);
  }
  std::string bytes_;
};

}  // namespace lbrd::unwind
