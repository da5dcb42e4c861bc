// The file that JIT compilers write for `perf inject`, jit-PID.dump: what code was loaded where and
// when, moved where, and from which source lines it comes. It grows while the process runs.
// Layout: the kernel's tools/perf/Documentation/jitdump-specification.txt, version 1.
//
// Input is hostile: every record is bounded by its size and by what is read of it (the code itself
// is not read). A record of a wrong size ends the file there; one of an unknown kind is skipped.
// Unwinding information is passed over: JIT frames are unwound by frame pointers.
//
// V8 adds the 64 bytes of the ELF header that perf inject once put before the code to the addresses
// of lines. Where no line of a function is within its first 64 bytes, they are taken off.
//
// Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "unwind/code_symbols.h"
#include "unwind/file_source.h"

namespace lbrd::unwind {

class JitDumpReader {
 public:
  static constexpr size_t kMaxNameBytes = 4096;
  // Of one piece of code; what comes beyond is not read, and counted.
  static constexpr size_t kMaxDebugInfoBytes = 1 << 20;
  // Records read at a time, so that nobody waits long; the rest comes with the next Read().
  static constexpr int kMaxRecords = 200'000;

  // Reads what has come since the last time.
  void Read(const ByteSource& file, CodeSymbols* out);

  uint64_t malformed_records() const { return malformed_; }
  // Times in the file are not CLOCK_MONOTONIC but the CPU's own: each piece counts from its start.
  bool cpu_time() const { return cpu_time_; }

 private:
  bool ReadFileHeader(const ByteSource& file);
  bool ReadRecord(const ByteSource& file, CodeSymbols* out);
  void Load(const std::vector<std::byte>& payload, uint64_t time_ns, CodeSymbols* out);
  void Move(const std::vector<std::byte>& payload, uint64_t time_ns, CodeSymbols* out);
  void DebugInfo(const std::vector<std::byte>& payload, CodeSymbols* out);

  uint64_t next_ = 0;    // where the next record begins; 0: the file's header was not read
  bool broken_ = false;  // nothing more can be read
  bool cpu_time_ = false;
  uint64_t malformed_ = 0;
  uint64_t lines_of_ = 0;  // the address of the code that lines_ belong to, which follows
  std::vector<CodeLine> lines_;
  absl::flat_hash_map<std::string, uint32_t> files_;
};

}  // namespace lbrd::unwind
