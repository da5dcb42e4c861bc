// Text from profiled programs, made safe and fitted: their names may hold any bytes.
//
// Widths are in terminal cells: 2 for East Asian wide characters and emoji, 0 for combining marks.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::client {

struct CodePoint {
  char32_t value = 0;  // U+FFFD when the bytes are not valid UTF-8
  size_t bytes = 1;    // to advance by
  bool valid = false;
};

// The first character of `text`, which must not be empty. Overlong forms, surrogates and values
// beyond U+10FFFF are not valid; an invalid sequence is consumed one byte at a time.
CodePoint DecodeUtf8(absl::string_view text);

// `text` as valid UTF-8 that does nothing but appear: what is not valid, control characters
// (terminal escapes among them), bidirectional overrides and noncharacters become U+FFFD.
std::string PrintableText(absl::string_view text);

// Cells that printable text takes.
size_t TextCells(absl::string_view text);

// Printable text cut to at most `cells`, with "…" where something is missing.
std::string ShortenMiddle(absl::string_view text, size_t cells);
std::string ShortenEnd(absl::string_view text, size_t cells);

// Printable text broken at spaces into lines of at most `cells`, joined by "\n" with none at the
// end; a longer word gets a line of its own. 0: not broken.
std::string WrapText(absl::string_view text, size_t cells);

}  // namespace lbrd::client
