#include "unwind/perf_map.h"

#include <optional>

#include "absl/strings/ascii.h"

namespace lbrd::unwind {
namespace {

// Takes a hexadecimal number and the blanks behind it off the front.
std::optional<uint64_t> TakeHex(absl::string_view* line) {
  size_t at = line->size() > 2 && (*line)[0] == '0' && ((*line)[1] | 0x20) == 'x' ? 2 : 0;
  const size_t first = at;
  uint64_t value = 0;
  for (; at < line->size() && absl::ascii_isxdigit(static_cast<unsigned char>((*line)[at])); ++at) {
    if (value >> 60 != 0) return std::nullopt;
    const char c = absl::ascii_tolower(static_cast<unsigned char>((*line)[at]));
    value = value << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  if (at == first || at == line->size() || ((*line)[at] != ' ' && (*line)[at] != '\t')) {
    return std::nullopt;
  }
  *line = absl::StripLeadingAsciiWhitespace(line->substr(at));
  return value;
}

}  // namespace

void PerfMapReader::Line(absl::string_view line, CodeSymbols* out) {
  line = absl::StripAsciiWhitespace(line);
  if (line.empty()) return;
  const std::optional<uint64_t> start = TakeHex(&line);
  const std::optional<uint64_t> size = start.has_value() ? TakeHex(&line) : std::nullopt;
  if (!size.has_value() || *size == 0 || line.empty() || *start + *size < *start) {
    ++malformed_;
    return;
  }
  out->Add(*start, *size, line.substr(0, kMaxNameBytes), 0);
}

void PerfMapReader::Feed(absl::string_view text, CodeSymbols* out) {
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const absl::string_view piece = text.substr(0, newline);
    if (!skip_line_ && begun_.size() + piece.size() > kMaxLineBytes) {
      ++malformed_;
      begun_.clear();
      skip_line_ = true;
    }
    if (newline == absl::string_view::npos) {
      if (!skip_line_) begun_.append(piece.data(), piece.size());
      return;
    }
    if (skip_line_) {
      skip_line_ = false;
    } else if (begun_.empty()) {
      Line(piece, out);
    } else {
      begun_.append(piece.data(), piece.size());
      Line(begun_, out);
      begun_.clear();
    }
    text.remove_prefix(newline + 1);
  }
}

}  // namespace lbrd::unwind
