#include "client/flame_graph.h"

#include <cctype>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/flame_tree.h"
#include "client/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What is wrong with the document's tags and references; empty: nothing.
std::string XmlFault(const std::string& xml) {
  std::vector<std::string> open;
  bool had_root = false;
  for (size_t i = 0; i < xml.size();) {
    const std::string rest = xml.substr(i, 24);
    if (absl::StartsWith(rest, "<?xml") || absl::StartsWith(rest, "<![CDATA[")) {
      const size_t end = xml.find(absl::StartsWith(rest, "<?") ? "?>" : "]]>", i);
      if (end == std::string::npos) return absl::StrCat("not closed: ", rest);
      i = xml.find('>', end) + 1;
    } else if (xml[i] == '<') {
      const size_t end = xml.find('>', i);
      if (end == std::string::npos) return absl::StrCat("not closed: ", rest);
      std::string tag = xml.substr(i + 1, end - i - 1);
      i = end + 1;
      static const std::regex kTag(R"(/?[a-z]+(\s+[a-zA-Z-]+="[^"<&]*")*\s*/?)");
      if (!std::regex_match(tag, kTag)) return absl::StrCat("not a tag: ", tag);
      if (tag[0] == '/') {
        if (open.empty() || open.back() != tag.substr(1)) return absl::StrCat("unmatched ", tag);
        open.pop_back();
      } else {
        if (open.empty() && had_root) return "two roots";
        had_root = true;
        if (tag.back() != '/') open.push_back(tag.substr(0, tag.find_first_of(" \n")));
      }
    } else if (xml[i] == '&') {
      static const std::regex kReference("&(lt|gt|amp|quot);.*");
      if (!std::regex_match(rest.substr(0, rest.find('\n')), kReference)) return rest;
      ++i;
    } else {
      const CodePoint c = DecodeUtf8(absl::string_view(xml).substr(i));
      if (!c.valid || (c.value < 0x20 && c.value != '\n')) return "bad character";
      if (open.empty() && !std::isspace(static_cast<unsigned char>(xml[i]))) return "text outside";
      i += c.bytes;
    }
  }
  return open.empty() ? "" : absl::StrCat("not closed: ", open.back());
}

struct DrawnFrame {
  std::string classes, name, about, shown;
  double x = 0, y = 0, width = 0;
};

std::vector<DrawnFrame> Frames(const std::string& svg) {
  static const std::regex kFrame(
      "<g class=\"f ([^\"]*)\"><title>([^\n]*)\n([^<]*)</title><rect x=\"([0-9.]+)\" "
      "y=\"([0-9.]+)\" width=\"([0-9.]+)\" [^>]*/><text [^>]*>([^<]*)</text></g>");
  const auto plain = [](const std::string& text) {
    return absl::StrReplaceAll(text,
                               {{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&amp;", "&"}});
  };
  std::vector<DrawnFrame> frames;
  for (std::sregex_iterator it(svg.begin(), svg.end(), kFrame), end; it != end; ++it) {
    frames.push_back({(*it)[1], plain((*it)[2]), plain((*it)[3]), plain((*it)[7]),
                      std::stod((*it)[4]), std::stod((*it)[5]), std::stod((*it)[6])});
  }
  return frames;
}

const DrawnFrame& Named(const std::vector<DrawnFrame>& frames, const std::string& name) {
  static const DrawnFrame kNone;
  for (const DrawnFrame& frame : frames) {
    if (frame.name == name) return frame;
  }
  ADD_FAILURE() << "no frame " << name;
  return kNone;
}

std::string Render(const ProfileBuilder& p, const FlameGraphOptions& options = {}) {
  const auto index = ProfileIndex::Build(p.profile, p.session);
  EXPECT_TRUE(index.ok()) << index.status();
  auto svg = RenderFlameGraph(*index, options);
  EXPECT_TRUE(svg.ok()) << svg.status();
  EXPECT_EQ(XmlFault(*svg), "");
  return *std::move(svg);
}

// "server", two processes: main → operator< (60 samples), main → kernel (20), a cut stack (20);
// "other": 100 samples of a vector's method.
struct TwoPrograms : ProfileBuilder {
  TwoPrograms() {
    const uint32_t server = Binary("/opt/server");
    const uint32_t root = Frame("main", server);
    const uint32_t less = Frame("operator<", server, v1::FRAME_SOURCE_SAMPLED_IP);
    const uint32_t kernel =
        Frame("do_syscall_64", Binary("[kernel.kallsyms]"), v1::FRAME_SOURCE_KERNEL);
    const uint32_t method = Frame("std::vector<int>::push_back", 0, v1::FRAME_SOURCE_LBR);
    const uint32_t one = Thread(10, 10, "server", "server");
    const uint32_t two = Thread(20, 21, "worker", "server");
    Entry(Stack({less, root}), one, 40);
    Entry(Stack({less, root}), two, 20);
    Entry(Stack({kernel, root}), two, 20);
    Entry(Stack({less}, "stack_copy_ended"), one, 20);
    Entry(Stack({method}), Thread(30, 30, "other", "other"), 100);
  }
};

TEST(FlameGraph, DrawsWidthByWeightAndRootsAtTheBottom) {
  const std::vector<DrawnFrame> frames = Frames(Render(TwoPrograms()));
  ASSERT_EQ(frames.size(), 9u);
  const DrawnFrame& all = Named(frames, "all");
  const DrawnFrame& server = Named(frames, "server (2 processes)");
  const DrawnFrame& other = Named(frames, "other (30)");
  const DrawnFrame& main = Named(frames, "main");
  const DrawnFrame& kernel = Named(frames, "do_syscall_64");
  EXPECT_NEAR(all.width, 1176, 0.01);
  EXPECT_NEAR(server.width, all.width * 0.5, 0.01);
  EXPECT_NEAR(main.width, all.width * 0.4, 0.01);
  EXPECT_NEAR(kernel.width, all.width * 0.1, 0.01);
  // By name from the left.
  EXPECT_LT(other.x, server.x);
  EXPECT_NEAR(other.x + other.width, server.x, 0.01);
  EXPECT_GT(all.y, server.y);
  EXPECT_GT(server.y, main.y);
  EXPECT_GT(main.y, kernel.y);
  EXPECT_THAT(main.about, HasSubstr("40.0% · 80 samples · server · DWARF"));
  EXPECT_THAT(Named(frames, "operator<").classes, HasSubstr("k4"));
  EXPECT_THAT(kernel.classes, HasSubstr("k3"));
  EXPECT_THAT(Named(frames, "std::vector<int>::push_back").classes, HasSubstr("k5"));
}

TEST(FlameGraph, ShowsWhereAStackIsCut) {
  const std::vector<DrawnFrame> frames = Frames(Render(TwoPrograms()));
  const DrawnFrame& cut = Named(frames, "[truncated: stack_copy_ended]");
  const DrawnFrame& main = Named(frames, "main");
  EXPECT_THAT(cut.classes, HasSubstr("k2"));
  EXPECT_EQ(cut.y, main.y);
  EXPECT_NEAR(cut.width, 1176 * 0.1, 0.01);
  // Its operator< stands on it, not on the process.
  int on_it = 0;
  for (const DrawnFrame& frame : frames) {
    on_it += frame.name == "operator<" && frame.y < cut.y && frame.x >= cut.x - 0.01 &&
             frame.x + frame.width <= cut.x + cut.width + 0.01;
  }
  EXPECT_EQ(on_it, 1);
}

TEST(FlameGraph, HeadsThePictureWithItsFacts) {
  TwoPrograms p;
  p.session.set_cpus(8);
  p.session.mutable_running_time()->set_seconds(5);
  FlameGraphOptions options;
  options.host = "fox<1>";
  options.title = "A & B";
  const std::string svg = Render(p, options);
  EXPECT_THAT(svg, HasSubstr("200 samples of cpu-clock · 5.0 s · 8 CPUs · fox&lt;1&gt; · 90.0% of "
                             "the stacks are complete"));
  EXPECT_THAT(svg, HasSubstr(">A &amp; B<"));
  EXPECT_THAT(svg, HasSubstr(">incomplete stack<"));
  EXPECT_THAT(svg, HasSubstr(">LBR<"));
  EXPECT_THAT(svg, Not(HasSubstr(">frame pointer<")));
}

TEST(FlameGraph, ClipsLabelsToTheirFrames) {
  TwoPrograms p;
  for (int i = 0; i < 40; ++i) {
    p.Entry(
        p.Stack({p.Frame(absl::StrCat("\xE6\x97\xA5\xE6\x9C\xAC::function_with_a_long_name_", i))}),
        1, 2);
  }
  const std::string svg = Render(p);
  int clipped = 0;
  for (const DrawnFrame& frame : Frames(svg)) {
    if (frame.shown.empty()) continue;
    EXPECT_LE(7 + 6.6 * static_cast<double>(TextCells(frame.shown)), frame.width + 0.01)
        << frame.name;
    clipped += frame.shown != frame.name;
  }
  EXPECT_GT(clipped, 0);
}

TEST(FlameGraph, StaysWellFormedWithHostileNames) {
  ProfileBuilder p;
  for (const char* name :
       {"operator<", "a&b", "\"quoted\"", "]]>", "</title><script>alert(1)</script>",
        "\x01\x1b[31m", "bad \xFF\xC3 utf8", "\xED\xA0\x80", "\xEF\xBF\xBF", "line\nbreak"}) {
    p.Entry(p.Stack({p.Frame(name, p.Binary(absl::StrCat("/lib/", name)))}, name),
            p.Thread(1, 1, name, name), 10);
  }
  p.session.mutable_events(0)->set_name("<&\x02>");
  FlameGraphOptions options;
  options.title = "\xFF<";
  const std::string svg = Render(p, options);
  EXPECT_THAT(svg, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(svg, HasSubstr("bad \xEF\xBF\xBD\xEF\xBF\xBD utf8"));
}

TEST(FlameGraph, CountsWhatIsTooNarrow) {
  ProfileBuilder p;
  const uint32_t thread = p.Thread(1, 1, "x", "x");
  p.Entry(p.Stack({p.Frame("wide")}), thread, 1'000'000);
  const uint32_t narrow = p.Frame("narrow");
  p.Entry(p.Stack({p.Frame("narrower"), narrow}), thread, 1);
  const std::string svg = Render(p);
  EXPECT_THAT(svg, HasSubstr("2 frames narrower than 0.1 px are not drawn."));
  EXPECT_EQ(Frames(svg).size(), 3u);
  FlameGraphOptions options;
  options.least_frame_px = 0;
  EXPECT_THAT(Render(p, options), Not(HasSubstr("not drawn")));
}

TEST(FlameGraph, DoesNotDependOnTheOrderOfEntries) {
  const std::string once = Render(TwoPrograms());
  TwoPrograms p;
  auto* entries = p.profile.mutable_entries();
  for (int i = 0, j = entries->size() - 1; i < j; ++i, --j) entries->SwapElements(i, j);
  EXPECT_EQ(Render(p), once);
}

TEST(FlameGraph, KeepsKernelAndUserCodeApart) {
  ProfileBuilder p;
  const uint32_t thread = p.Thread(1, 1, "x", "x");
  p.Entry(p.Stack({p.Frame("read", 0, v1::FRAME_SOURCE_KERNEL)}), thread, 1);
  p.Entry(p.Stack({p.Frame("read", 0, v1::FRAME_SOURCE_DWARF)}), thread, 1);
  p.Entry(p.Stack({p.Frame("read", 0, v1::FRAME_SOURCE_LBR)}), thread, 2);
  const std::vector<DrawnFrame> frames = Frames(Render(p));
  ASSERT_EQ(frames.size(), 4u);
  // The user frames are merged and have the colour of most of their weight.
  EXPECT_THAT(frames[2].classes + frames[3].classes, HasSubstr("k5"));
  EXPECT_THAT(frames[2].classes + frames[3].classes, HasSubstr("k3"));
}

TEST(FlameGraph, BoundsDepth) {
  ProfileBuilder p;
  std::vector<uint32_t> frame_ids(100'000, p.Frame("recurse"));
  frame_ids.back() = p.Frame("main");
  p.Entry(p.Stack(frame_ids), p.Thread(1, 1, "x", "x"), 7);
  const std::string svg = Render(p);
  EXPECT_EQ(Frames(svg).size(), 2 + FlameTree::kMaxDepth);
  EXPECT_THAT(svg, HasSubstr("7 stack samples deeper than 1024 frames"));
}

TEST(FlameGraph, RefusesAnEmptyProfile) {
  ProfileBuilder p;
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(RenderFlameGraph(*index, {}).status().code(), absl::StatusCode::kNotFound);
  FlameGraphOptions options;
  options.event = 3;
  EXPECT_EQ(RenderFlameGraph(*index, options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lbrd::client
