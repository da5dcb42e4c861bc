#include "client/utf8.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::client {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr absl::string_view kReplacementBytes = "\xEF\xBF\xBD";
constexpr absl::string_view kEllipsis = "\xE2\x80\xA6";

struct Range {
  char32_t first;
  char32_t last;
};

// Sorted. Coarse on purpose: blocks, not single characters.
constexpr Range kZeroWidth[] = {
    {0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD},  {0x064B, 0x065F}, {0x1AB0, 0x1AFF},
    {0x1DC0, 0x1DFF}, {0x200B, 0x200F}, {0x2060, 0x2064},  {0x20D0, 0x20FF}, {0xFE00, 0xFE0F},
    {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF}, {0xE0100, 0xE01EF}};
constexpr Range kWide[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},
                           {0xA960, 0xA97F},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
                           {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
                           {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF},
                           {0x1FA70, 0x1FAFF}, {0x20000, 0x3FFFD}};

template <size_t kSize>
bool Contains(const Range (&ranges)[kSize], char32_t c) {
  const Range* after = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                        [](char32_t v, const Range& r) { return v < r.first; });
  return after != std::begin(ranges) && c <= std::prev(after)->last;
}

size_t Cells(char32_t c) {
  if (c < 0x300) return 1;
  if (Contains(kZeroWidth, c)) return 0;
  return Contains(kWide, c) ? 2 : 1;
}

bool IsPrintable(char32_t c) {
  if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return false;
  if (c == 0x2028 || c == 0x2029) return false;
  if ((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069)) return false;
  return (c & 0xFFFE) != 0xFFFE;
}

// The longest start of `text` within `cells`.
absl::string_view Head(absl::string_view text, size_t cells) {
  size_t end = 0;
  size_t used = 0;
  while (end < text.size()) {
    const CodePoint c = DecodeUtf8(text.substr(end));
    used += Cells(c.value);
    if (used > cells) break;
    end += c.bytes;
  }
  return text.substr(0, end);
}

// The longest end of `text` within `cells`.
absl::string_view Tail(absl::string_view text, size_t cells) {
  size_t surplus = TextCells(text);
  surplus = surplus > cells ? surplus - cells : 0;
  size_t begin = 0;
  size_t skipped = 0;
  while (begin < text.size() && skipped < surplus) {
    const CodePoint c = DecodeUtf8(text.substr(begin));
    skipped += Cells(c.value);
    begin += c.bytes;
  }
  // A combining mark without its base would sit on the ellipsis.
  while (surplus > 0 && begin < text.size()) {
    const CodePoint c = DecodeUtf8(text.substr(begin));
    if (Cells(c.value) != 0) break;
    begin += c.bytes;
  }
  return text.substr(begin);
}

}  // namespace

CodePoint DecodeUtf8(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1, true};
  size_t size = 0;
  char32_t value = 0;
  char32_t least = 0;
  if (first >= 0xC2 && first <= 0xDF) {
    size = 2, value = first & 0x1F, least = 0x80;
  } else if ((first & 0xF0) == 0xE0) {
    size = 3, value = first & 0x0F, least = 0x800;
  } else if (first >= 0xF0 && first <= 0xF4) {
    size = 4, value = first & 0x07, least = 0x10000;
  }
  if (size == 0 || text.size() < size) return {kReplacement, 1, false};
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {kReplacement, 1, false};
    value = (value << 6) | (byte(i) & 0x3F);
  }
  if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return {kReplacement, 1, false};
  }
  return {value, size, true};
}

std::string PrintableText(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = DecodeUtf8(text);
    if (c.valid && IsPrintable(c.value)) {
      out.append(text.data(), c.bytes);
    } else {
      out.append(kReplacementBytes.data(), kReplacementBytes.size());
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

size_t TextCells(absl::string_view text) {
  size_t cells = 0;
  while (!text.empty()) {
    const CodePoint c = DecodeUtf8(text);
    cells += Cells(c.value);
    text.remove_prefix(c.bytes);
  }
  return cells;
}

std::string ShortenMiddle(absl::string_view text, size_t cells) {
  if (TextCells(text) <= cells) return std::string(text);
  if (cells == 0) return "";
  const size_t tail = (cells - 1) / 2;
  return absl::StrCat(Head(text, cells - 1 - tail), kEllipsis, Tail(text, tail));
}

std::string ShortenEnd(absl::string_view text, size_t cells) {
  if (TextCells(text) <= cells) return std::string(text);
  if (cells == 0) return "";
  return absl::StrCat(Head(text, cells - 1), kEllipsis);
}

std::string WrapText(absl::string_view text, size_t cells) {
  if (cells == 0) return std::string(text);
  std::string out;
  size_t used = 0;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const size_t size = TextCells(word);
    if (!out.empty() && used + 1 + size > cells) {
      out.push_back('\n');
      used = 0;
    } else if (!out.empty()) {
      out.push_back(' ');
      ++used;
    }
    absl::StrAppend(&out, word);
    used += size;
  }
  return out;
}

}  // namespace lbrd::client
