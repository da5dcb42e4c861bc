// The text that JIT compilers write for perf, /tmp/perf-PID.map: lines of "start size name", the
// numbers in hex. It only grows; a line replaces what stood at its addresses before.
//
// Input is hostile: what is no such line is skipped and counted, names are cut at kMaxNameBytes.
// Thread rules: one owner.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "unwind/code_symbols.h"

namespace lbrd::unwind {

class PerfMapReader {
 public:
  static constexpr size_t kMaxNameBytes = 4096;
  static constexpr size_t kMaxLineBytes = 65536;

  // The next part of the text, which may end inside a line.
  void Feed(absl::string_view text, CodeSymbols* out);
  uint64_t malformed_lines() const { return malformed_; }

 private:
  void Line(absl::string_view line, CodeSymbols* out);
  std::string begun_;       // a line's part that has come
  bool skip_line_ = false;  // the rest of a line that is too long
  uint64_t malformed_ = 0;
};

}  // namespace lbrd::unwind
