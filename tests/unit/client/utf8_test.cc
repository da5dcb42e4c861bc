#include "client/utf8.h"

#include "gtest/gtest.h"

namespace lbrd::client {
namespace {

TEST(DecodeUtf8, TakesWhatIsValid) {
  EXPECT_EQ(DecodeUtf8("a").value, U'a');
  EXPECT_EQ(DecodeUtf8("\xC3\xA9x").value, U'\u00e9');
  EXPECT_EQ(DecodeUtf8("\xE2\x80\xA6").value, U'\u2026');
  EXPECT_EQ(DecodeUtf8("\xF0\x9F\x94\xA5").value, U'\U0001F525');
  EXPECT_EQ(DecodeUtf8("\xF0\x9F\x94\xA5").bytes, 4u);
}

TEST(DecodeUtf8, RefusesTheRest) {
  for (const char* text :
       {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x80", "\xE2(\xA6", "\xFF"}) {
    const CodePoint c = DecodeUtf8(text);
    EXPECT_FALSE(c.valid) << text;
    EXPECT_EQ(c.bytes, 1u);
    EXPECT_EQ(c.value, U'\uFFFD');
  }
}

TEST(PrintableText, LeavesNothingThatActs) {
  EXPECT_EQ(PrintableText("caf\xC3\xA9 <int>"), "caf\xC3\xA9 <int>");
  for (const char* text : {"\x1b", "\x07", "\n", "\x7f", "\xC2\x9B", "\xE2\x80\xAE", "\xE2\x81\xA6",
                           "\xE2\x80\xA8", "\xEF\xBF\xBE", "\xFE"}) {
    EXPECT_EQ(PrintableText(text), "\xEF\xBF\xBD") << text;
  }
}

TEST(TextCells, CountsWideAndCombining) {
  EXPECT_EQ(TextCells("abc"), 3u);
  EXPECT_EQ(TextCells("\xE6\x97\xA5\xE6\x9C\xAC"), 4u);
  EXPECT_EQ(TextCells("e\xCC\x81"), 1u);
  EXPECT_EQ(TextCells("\xF0\x9F\x94\xA5"), 2u);
}

TEST(Shorten, KeepsWithinTheCells) {
  EXPECT_EQ(ShortenMiddle("abcdefghij", 10), "abcdefghij");
  EXPECT_EQ(ShortenMiddle("abcdefghij", 7), "abc\xE2\x80\xA6hij");
  EXPECT_EQ(ShortenMiddle("abcdefghij", 6), "abc\xE2\x80\xA6ij");
  EXPECT_EQ(ShortenMiddle("abcdefghij", 1), "\xE2\x80\xA6");
  EXPECT_EQ(ShortenMiddle("abcdefghij", 0), "");
  EXPECT_EQ(ShortenEnd("abcdefghij", 4), "abc\xE2\x80\xA6");
  EXPECT_EQ(ShortenEnd("abcdefghij", 0), "");
  // A wide character that does not fit whole is left out.
  EXPECT_EQ(ShortenEnd("\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", 4), "\xE6\x97\xA5\xE2\x80\xA6");
  const std::string wide =
      "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E"
      "e\xCC\x81\xE6\x97\xA5\xE6\x9C\xAC";
  for (size_t cells = 0; cells < 14; ++cells) {
    EXPECT_LE(TextCells(ShortenMiddle(wide, cells)), cells);
    EXPECT_EQ(PrintableText(ShortenMiddle(wide, cells)), ShortenMiddle(wide, cells));
  }
}

TEST(WrapText, BreaksAtSpaces) {
  EXPECT_EQ(WrapText("one two three", 0), "one two three");
  EXPECT_EQ(WrapText("one two three", 7), "one two\nthree");
  EXPECT_EQ(WrapText("one  two", 3), "one\ntwo");
  EXPECT_EQ(WrapText("immeasurable a b", 3), "immeasurable\na b");
  EXPECT_EQ(WrapText("", 3), "");
}

}  // namespace
}  // namespace lbrd::client
