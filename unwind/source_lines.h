// What DWARF knows of an address: the source line, and the functions inlined there. Read on demand.
//
// libdw parses; it is given an ELF file made here that holds nothing but the debug sections, read
// and decompressed by ElfFile's rules. So of a hostile file only the contents of these sections
// reach it. Bounds: kMaxBytes of sections, kMaxUnits units, kMaxDies entries looked at and
// kDiesPerAddress more for each address, kMaxLineProgramBytes of one unit's line program and as
// much again of others before all are forgotten and read anew (a byte may become a row of 40
// bytes). What lies beyond is not known, and problem() says so.
//
// Not found: what a shared supplementary file (dwz, .gnu_debugaltlink) holds.
//
// Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "unwind/elf_file.h"

namespace lbrd::unwind {

// A function at an address, and where in it.
struct SourceCall {
  // Still mangled; where DWARF has no such name (of functions that are nobody else's) as in the
  // source, with its scopes. Empty: unknown.
  std::string function;
  std::string file;   // empty: unknown
  uint32_t line = 0;  // 0: unknown
};

class SourceLines {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
  static constexpr size_t kMaxUnits = 1 << 18;
  static constexpr uint64_t kMaxDies = uint64_t{32} << 20;
  static constexpr uint64_t kDiesPerAddress = 4096;
  static constexpr uint64_t kMaxLineProgramBytes = uint64_t{8} << 20;
  static constexpr size_t kMaxInlined = 64;

  // kNotFound: the file has no DWARF; kResourceExhausted: too much.
  static absl::StatusOr<std::unique_ptr<SourceLines>> Open(const ElfFile& file);
  virtual ~SourceLines() = default;

  // Innermost first: the functions that are inlined at `address` (the file's own), then the
  // function that stands there. Each one's file and line are where it is: of the innermost the
  // address's own, of the others where the next inner one was called. Empty: nothing is known.
  virtual std::vector<SourceCall> Find(uint64_t address) = 0;

  // Memory that it takes, about.
  virtual uint64_t bytes() const = 0;
  // What was left out, for people; empty: nothing.
  virtual std::string problem() const = 0;
};

}  // namespace lbrd::unwind
