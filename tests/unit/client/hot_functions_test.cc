#include "client/hot_functions.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

HotFunctionList List(const ProfileBuilder& p, const HotFunctionsOptions& options = {}) {
  const auto index = ProfileIndex::Build(p.profile, p.session);
  EXPECT_TRUE(index.ok()) << index.status();
  auto list = HotFunctions(*index, options);
  EXPECT_TRUE(list.ok()) << list.status();
  return *std::move(list);
}

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n'); }

// main calls itself twice and then leaf (6 samples); main runs itself (2); a kernel part (2).
struct Recursive : ProfileBuilder {
  Recursive() {
    const uint32_t server = Binary("/opt/server");
    const uint32_t kernel = Binary("[kernel.kallsyms]");
    const uint32_t outer = Frame("main", server);
    const uint32_t leaf = Frame("leaf", server, v1::FRAME_SOURCE_SAMPLED_IP);
    const uint32_t thread = Thread(10, 10, "server", "server");
    Entry(Stack({leaf, outer, outer, outer}), thread, 6);
    Entry(Stack({Frame("main", server, v1::FRAME_SOURCE_SAMPLED_IP)}), thread, 2);
    Entry(Stack({Frame("leaf", kernel, v1::FRAME_SOURCE_KERNEL), outer}, "stack_copy_ended"),
          thread, 2);
  }
};

TEST(HotFunctions, CountsARecursiveFunctionOnceAStack) {
  const HotFunctionList list = List(Recursive());
  ASSERT_EQ(list.rows.size(), 3u);
  EXPECT_EQ(list.samples, 10u);
  EXPECT_EQ(list.weight, 10'000'000u);
  EXPECT_EQ(list.incomplete_samples, 2u);

  const HotFunction& leaf = list.rows[0];
  EXPECT_EQ(leaf.symbol, "leaf");
  EXPECT_EQ(leaf.binary, "server");
  EXPECT_EQ(leaf.self, 6'000'000u);
  EXPECT_DOUBLE_EQ(leaf.self_percent, 60.0);
  EXPECT_EQ(leaf.source, v1::FRAME_SOURCE_SAMPLED_IP);

  // Equal self: more total first.
  const HotFunction& main = list.rows[1];
  EXPECT_EQ(main.symbol, "main");
  EXPECT_EQ(main.self, 2'000'000u);
  EXPECT_EQ(main.total, 10'000'000u);
  EXPECT_EQ(main.self_samples, 2u);
  EXPECT_EQ(main.total_samples, 10u);
  EXPECT_EQ(main.source, v1::FRAME_SOURCE_DWARF);

  EXPECT_EQ(list.rows[2].source, v1::FRAME_SOURCE_KERNEL);
  EXPECT_EQ(list.rows[2].binary, "[kernel.kallsyms]");
}

TEST(HotFunctions, SortsByTotal) {
  HotFunctionsOptions options;
  options.order = HotFunctionsOptions::Order::kTotal;
  const HotFunctionList list = List(Recursive(), options);
  EXPECT_EQ(list.rows[0].symbol, "main");
  EXPECT_THAT(Lines(RenderHotFunctions(list, 80))[1], HasSubstr(" 100.0       10    20.0  main"));
}

TEST(HotFunctions, DoesNotMixEvents) {
  Recursive p;
  p.AddEvent("cycles", "cycles", 1);
  const uint32_t other = p.Frame("other");
  p.Entry(p.Stack({other}), 1, 5, 1);
  EXPECT_EQ(List(p).rows.size(), 3u);
  HotFunctionsOptions options;
  options.event = 1;
  const HotFunctionList list = List(p, options);
  ASSERT_EQ(list.rows.size(), 1u);
  EXPECT_EQ(list.rows[0].self, 5u);
  EXPECT_EQ(list.event, "cycles");
}

TEST(HotFunctions, SaysWhatIsNotShown) {
  HotFunctionsOptions options;
  options.limit = 1;
  const HotFunctionList list = List(Recursive(), options);
  EXPECT_EQ(list.rows.size(), 1u);
  EXPECT_EQ(list.functions_not_shown, 2u);
  EXPECT_EQ(list.self_not_shown, 4'000'000u);
  const std::string text = RenderHotFunctions(list, 200);
  EXPECT_THAT(text, HasSubstr("2 functions with 40.0% of self not shown"));
  EXPECT_THAT(text, HasSubstr("20.0% of the stacks are not known to be complete"));
  EXPECT_THAT(RenderHotFunctions(List(Recursive()), 200), HasSubstr("All 3 functions shown"));
}

TEST(RenderHotFunctions, FitsAnyWidth) {
  Recursive p;
  const uint32_t binary =
      p.Binary("/lib/\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E-long-name-of-a-library.so");
  std::string name = "std::map<std::string, std::vector<std::pair<int, \xC3\xA9t\xC3\xA9>>>::";
  for (int i = 0; i < 30; ++i)
    absl::StrAppend(&name,
                    "\xE5\xAD\x97"
                    "deep_namespace::");
  p.Entry(p.Stack({p.Frame(name + "last", binary)}), 1, 1'234'567);
  const HotFunctionList list = List(p);
  for (size_t width = 40; width <= 200; ++width) {
    for (const std::string& line : Lines(RenderHotFunctions(list, width))) {
      EXPECT_LE(TextCells(line), width) << line;
      EXPECT_EQ(PrintableText(line), line);
    }
  }
  const std::vector<std::string> lines = Lines(RenderHotFunctions(list, 80));
  EXPECT_THAT(lines[1], HasSubstr("1,234,567"));
  EXPECT_THAT(lines[1], HasSubstr("std::map<"));
  EXPECT_THAT(lines[1], HasSubstr("\xE2\x80\xA6"));
  EXPECT_THAT(lines[1], HasSubstr("::last"));
  // Figures stand under the ends of their headings.
  EXPECT_EQ(lines[0].substr(0, 28), " SELF%    SAMPLES  TOTAL%  F");
  EXPECT_EQ(lines[1].substr(0, 28), "  99.9  1,234,567    99.9  s");
  EXPECT_EQ(lines[2].substr(0, 28), "  <0.1          6    <0.1  l");
}

TEST(RenderHotFunctions, DoesNotPassTerminalEscapesOn) {
  ProfileBuilder p;
  p.Entry(p.Stack({p.Frame("\x1b]0;owned\x07")}), p.Thread(1, 1, "x", "x"), 1);
  const std::string text = RenderHotFunctions(List(p), 80);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\x07")));
  EXPECT_THAT(text, HasSubstr("]0;owned"));
}

TEST(RenderHotFunctions, NamesTheSourceWhereThereIsRoom) {
  EXPECT_THAT(RenderHotFunctions(List(Recursive()), 120), HasSubstr("sampled_ip"));
  EXPECT_THAT(RenderHotFunctions(List(Recursive()), 80), Not(HasSubstr("sampled_ip")));
}

}  // namespace
}  // namespace lbrd::client
