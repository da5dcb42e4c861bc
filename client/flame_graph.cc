#include "client/flame_graph.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/figures.h"
#include "client/flame_graph_script.h"
#include "client/flame_tree.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

constexpr int kLeastWidth = 400;
constexpr double kMargin = 12;
constexpr double kFramesTop = 86;
constexpr double kRowHeight = 18;
constexpr double kFrameHeight = 17;
constexpr double kFooterHeight = 56;
constexpr double kCellWidth = 6.63;  // of the 11 px monospace that frames are labelled in
constexpr double kTextInset = 4;
constexpr size_t kLeastCells = 3;
constexpr size_t kMaxNameCells = 1000;
constexpr size_t kShades = 3;

std::string Escape(absl::string_view printable) {
  std::string out;
  out.reserve(printable.size());
  for (const char c : printable) {
    switch (c) {
      case '&':
        out.append("&amp;");
        break;
      case '<':
        out.append("&lt;");
        break;
      case '>':
        out.append("&gt;");
        break;
      case '"':
        out.append("&quot;");
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

absl::string_view KindText(FlameKind kind) {
  switch (kind) {
    case FlameKind::kAll:
    case FlameKind::kProcess:
      return "";
    case FlameKind::kIncomplete:
      return "incomplete stack";
    case FlameKind::kKernel:
      return "kernel";
    case FlameKind::kSampledIp:
      return "sampled instruction";
    case FlameKind::kLbr:
      return "LBR";
    case FlameKind::kKernelDeferred:
      return "kernel-deferred";
    case FlameKind::kDwarf:
      return "DWARF";
    case FlameKind::kFramePointer:
      return "frame pointer";
    case FlameKind::kGuess:
      return "guess";
    case FlameKind::kOtherSource:
      return "other source";
  }
  return "";
}

// Frames of one name have one shade, wherever they are.
size_t ShadeOf(absl::string_view label) {
  uint32_t sum = 0;
  for (const char c : label) sum = sum * 31 + static_cast<unsigned char>(c);
  return sum % kShades;
}

struct Placed {
  size_t node = 0;
  size_t depth = 0;
  double x = 0;  // px from the left edge of the frames
  double width = 0;
};

class FlameGraph {
 public:
  FlameGraph(const ProfileIndex& index, const FlameGraphOptions& options, FlameTree tree)
      : index_(index),
        options_(options),
        tree_(std::move(tree)),
        width_(std::max(options.width_px, kLeastWidth)) {}

  std::string Render() {
    Place();
    height_ = kFramesTop + static_cast<double>(rows_) * kRowHeight + kFooterHeight;
    Open();
    Header();
    Legend();
    for (const Placed& placed : placed_) Frame(placed);
    Footer();
    absl::StrAppend(&out_, "<script><![CDATA[", kFlameGraphScript, "]]></script>\n</svg>\n");
    return std::move(out_);
  }

 private:
  void Place() {
    const std::vector<FlameNode>& nodes = tree_.nodes;
    const double span = width_ - 2 * kMargin;
    const double px_per_value = span / static_cast<double>(nodes[0].value);
    std::vector<std::pair<uint64_t, size_t>> starts(nodes.size());  // value, depth
    for (size_t i = 0; i < nodes.size(); ++i) {
      const auto [start, depth] = starts[i];
      uint64_t child_start = start;
      for (uint32_t c = 0; c < nodes[i].children; ++c) {
        starts[nodes[i].first_child + c] = {child_start, depth + 1};
        child_start += nodes[nodes[i].first_child + c].value;
      }
      const double width = static_cast<double>(nodes[i].value) * px_per_value;
      if (width < options_.least_frame_px) {
        ++too_narrow_;
        continue;
      }
      placed_.push_back({i, depth, static_cast<double>(start) * px_per_value, width});
      rows_ = std::max(rows_, depth + 1);
    }
  }

  void Open() {
    absl::StrAppendFormat(&out_,
                          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
                          "viewBox=\"0 0 %d %.0f\">\n",
                          width_, height_, width_, height_);
    absl::StrAppend(&out_, "<style>", kFlameGraphStyle, "</style>\n");
    absl::StrAppend(&out_, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
  }

  // `id` may be empty. A negative x counts from the right edge.
  void Text(double x, double y, absl::string_view css_class, absl::string_view id,
            absl::string_view text) {
    absl::StrAppendFormat(&out_, "<text x=\"%.1f\" y=\"%.1f\"%s", x < 0 ? width_ + x : x, y,
                          x < 0 ? " text-anchor=\"end\"" : "");
    if (!css_class.empty()) absl::StrAppend(&out_, " class=\"", css_class, "\"");
    if (!id.empty()) absl::StrAppend(&out_, " id=\"", id, "\"");
    absl::StrAppend(&out_, ">", Escape(text), "</text>\n");
  }

  void Header() {
    const v1::Session& session = index_.session();
    const std::string event = PrintableText(index_.EventName(options_.event));
    // About what fits beside the buttons, in the title's size and in the subtitle's.
    const auto title_cells = static_cast<size_t>((width_ - 260) / 11);
    const auto subtitle_cells = static_cast<size_t>((width_ - 2 * kMargin) / 7);
    const std::string title =
        options_.title.empty() ? absl::StrCat("Flame graph of ", event) : options_.title;
    Text(kMargin, 28, "title", "", ShortenEnd(PrintableText(title), title_cells));
    std::vector<std::string> facts = {
        absl::StrCat(FormatCountOf(tree_.samples, "sample"), " of ", event)};
    if (session.has_running_time()) facts.push_back(FormatDuration(session.running_time()));
    if (session.cpus() != 0) facts.push_back(FormatCountOf(session.cpus(), "CPU"));
    if (!options_.host.empty()) facts.push_back(PrintableText(options_.host));
    facts.push_back(absl::StrCat(FormatPercent(tree_.complete_samples, tree_.samples),
                                 " of the stacks are complete"));
    Text(kMargin, 48, "quiet", "", ShortenEnd(absl::StrJoin(facts, " · "), subtitle_cells));
    Text(-kMargin, 28, "button hidden", "search", "Search");
    Text(-kMargin - 100, 28, "button hidden", "reset", "Reset zoom");
  }

  void Legend() {
    bool drawn[static_cast<size_t>(FlameKind::kOtherSource) + 1] = {};
    for (const Placed& placed : placed_) {
      drawn[static_cast<size_t>(tree_.nodes[placed.node].kind)] = true;
    }
    double x = kMargin;
    for (size_t kind = 0; kind < std::size(drawn); ++kind) {
      const absl::string_view text = KindText(static_cast<FlameKind>(kind));
      if (!drawn[kind] || text.empty()) continue;
      absl::StrAppendFormat(&out_,
                            "<g class=\"k%d\"><rect x=\"%.1f\" y=\"61\" width=\"12\" height=\"12\" "
                            "rx=\"2\"/></g>\n",
                            kind, x);
      Text(x + 17, 71.5, "", "", text);
      x += 17 + 6.5 * static_cast<double>(text.size()) + 18;
    }
  }

  void Frame(const Placed& placed) {
    const FlameNode& node = tree_.nodes[placed.node];
    const std::string name = ShortenMiddle(node.label, kMaxNameCells);
    std::vector<std::string> about = {FormatPercent(node.value, tree_.nodes[0].value),
                                      FormatCountOf(node.samples, "sample")};
    if (!node.binaries.empty()) about.push_back(ShortenMiddle(node.binaries, 80));
    if (!KindText(node.kind).empty()) about.emplace_back(KindText(node.kind));
    const double x = kMargin + placed.x;
    const double y = kFramesTop + static_cast<double>(rows_ - 1 - placed.depth) * kRowHeight;
    const double room = (placed.width - kTextInset - 3) / kCellWidth;
    const size_t cells = room < 0 ? 0 : static_cast<size_t>(room);
    std::string shown = ShortenEnd(name, cells);
    if (shown != name && cells < kLeastCells) shown.clear();
    absl::StrAppendFormat(
        &out_,
        "<g class=\"f k%d v%d\"><title>%s\n%s</title><rect x=\"%.3f\" y=\"%.0f\" width=\"%.3f\" "
        "height=\"%.0f\" rx=\"2\"/><text x=\"%.2f\" y=\"%.1f\">%s</text></g>\n",
        static_cast<int>(node.kind), ShadeOf(node.label), Escape(name),
        Escape(absl::StrJoin(about, " · ")), x, y, placed.width, kFrameHeight, x + kTextInset,
        y + 12.5, Escape(shown));
  }

  void Footer() {
    std::vector<std::string> left_out;
    if (too_narrow_ != 0) {
      left_out.push_back(absl::StrFormat("%s narrower than %g px %s not drawn.",
                                         FormatCountOf(too_narrow_, "frame"),
                                         options_.least_frame_px, too_narrow_ == 1 ? "is" : "are"));
    }
    if (tree_.too_deep_samples != 0) {
      left_out.push_back(absl::StrFormat("%s deeper than %d frames: the youngest are not drawn.",
                                         FormatCountOf(tree_.too_deep_samples, "stack sample"),
                                         FlameTree::kMaxDepth));
    }
    Text(kMargin, height_ - 34, "", "details", " ");
    Text(-kMargin, height_ - 34, "", "matched", "");
    Text(kMargin, height_ - 14, "quiet", "", absl::StrJoin(left_out, " "));
  }

  const ProfileIndex& index_;
  const FlameGraphOptions& options_;
  const FlameTree tree_;
  const int width_;
  double height_ = 0;
  size_t rows_ = 0;
  size_t too_narrow_ = 0;
  std::vector<Placed> placed_;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> RenderFlameGraph(const ProfileIndex& index,
                                             const FlameGraphOptions& options) {
  absl::StatusOr<FlameTree> tree = BuildFlameTree(index, options.event);
  if (!tree.ok()) return tree.status();
  return FlameGraph(index, options, *std::move(tree)).Render();
}

}  // namespace lbrd::client
