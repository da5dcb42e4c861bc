#include "client/hot_functions.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/figures.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

using Order = HotFunctionsOptions::Order;

struct Counts {
  uint64_t value = 0;
  uint64_t samples = 0;
};

// Adds up stacks, one at a time. A profile has a million frames of stacks and more: what each of
// them touches is kept together, and names are looked at once for each frame that there is.
class FunctionSums {
 public:
  explicit FunctionSums(const ProfileIndex& index)
      : index_(index),
        calls_of_frame_(static_cast<size_t>(index.profile().definitions().frames_size())) {}

  void AddStack(const v1::Stack& stack, const Counts& counts) {
    ++stacks_;
    for (int i = 0; i < stack.frame_ids_size(); ++i) {
      const auto [first, end] = CallsOf(index_.FrameAt(stack.frame_ids(i)));
      if (i == 0) {
        // What is inlined there runs itself.
        HotFunction& leaf = functions_[calls_[first].function];
        leaf.self += counts.value;
        leaf.self_samples += counts.samples;
      }
      for (uint32_t at = first; at != end; ++at) {
        Call& call = calls_[at];
        if (last_stack_[call.function] == stacks_) continue;
        last_stack_[call.function] = stacks_;
        call.counts.value += counts.value;
        call.counts.samples += counts.samples;
      }
    }
  }

  std::vector<HotFunction> Take(uint64_t whole) {
    std::vector<std::array<uint64_t, v1::FrameSource_ARRAYSIZE>> by_source(functions_.size());
    for (const Call& call : calls_) {
      functions_[call.function].total += call.counts.value;
      functions_[call.function].total_samples += call.counts.samples;
      by_source[call.function][call.source] += call.counts.value;
    }
    const double percent = 100.0 / static_cast<double>(whole);
    for (size_t i = 0; i < functions_.size(); ++i) {
      HotFunction& function = functions_[i];
      const auto most = std::max_element(by_source[i].begin(), by_source[i].end());
      function.source = static_cast<v1::FrameSource>(std::distance(by_source[i].begin(), most));
      function.self_percent = static_cast<double>(function.self) * percent;
      function.total_percent = static_cast<double>(function.total) * percent;
    }
    return std::move(functions_);
  }

 private:
  // A function that a frame stands for, and what it was counted for by that frame.
  struct Call {
    uint32_t function = 0;
    uint32_t source = 0;
    Counts counts;
  };
  using Span = std::pair<uint32_t, uint32_t>;  // of calls_; empty: not looked at yet

  // Innermost first.
  Span CallsOf(int frame_at) {
    Span& known = calls_of_frame_[static_cast<size_t>(frame_at)];
    if (known.first != known.second) return known;
    known.first = static_cast<uint32_t>(calls_.size());
    const v1::Frame& frame = index_.profile().definitions().frames(frame_at);
    const auto source = static_cast<uint32_t>(frame.source());
    // Kernel and user code never share a function, even where neither has a binary.
    const bool kernel = frame.source() == v1::FRAME_SOURCE_KERNEL;
    for (const FrameCall& call : index_.Calls(frame)) {
      std::string label = call.MarkedLabel();
      const auto [by_name, fresh] = by_name_.try_emplace(
          std::make_tuple(label, frame.binary_id(), kernel), functions_.size());
      if (fresh) {
        HotFunction& function = functions_.emplace_back();
        last_stack_.push_back(0);
        function.symbol = std::move(label);
        const v1::Binary* binary = index_.binary(frame.binary_id());
        if (binary != nullptr) function.binary = std::string(BinaryBasename(*binary));
      }
      calls_.push_back({.function = static_cast<uint32_t>(by_name->second),
                        .source = source < v1::FrameSource_ARRAYSIZE ? source : 0,
                        .counts = {}});
    }
    known.second = static_cast<uint32_t>(calls_.size());
    return known;
  }

  const ProfileIndex& index_;
  uint64_t stacks_ = 0;
  std::vector<HotFunction> functions_;
  std::vector<uint64_t> last_stack_;  // by function: the last one counted in total
  std::vector<Call> calls_;
  std::vector<Span> calls_of_frame_;
  absl::flat_hash_map<std::tuple<std::string, uint32_t, bool>, size_t> by_name_;
};

std::string PadLeft(absl::string_view text, size_t cells) {
  const size_t used = TextCells(text);
  return absl::StrCat(std::string(used < cells ? cells - used : 0, ' '), text);
}

std::string PadRight(absl::string_view text, size_t cells) {
  const size_t used = TextCells(text);
  return absl::StrCat(text, std::string(used < cells ? cells - used : 0, ' '));
}

// "12.3" for a column headed with "%".
std::string PercentFigure(uint64_t part, uint64_t whole) {
  std::string text = FormatPercent(part, whole);
  text.pop_back();
  return text;
}

constexpr size_t kGap = 2;
constexpr size_t kPercentCells = 6;
constexpr size_t kLeastWidth = 40;
// From this width on there is room for the frame source.
constexpr size_t kSourceFromWidth = 100;
constexpr size_t kSourceCells = 15;
// With less room than this for the binary's name there is no column for it.
constexpr size_t kLeastBinaryCells = 10;

struct Columns {
  size_t samples = 7;
  size_t symbol = 0;
  size_t binary = 0;
  bool source = false;
};

Columns FitColumns(const HotFunctionList& list, size_t width) {
  Columns columns;
  size_t symbol = 8;
  size_t binary = 6;
  for (const HotFunction& row : list.rows) {
    const uint64_t samples = list.order == Order::kSelf ? row.self_samples : row.total_samples;
    columns.samples = std::max(columns.samples, FormatCount(samples).size());
    symbol = std::max(symbol, TextCells(PrintableText(row.symbol)));
    binary = std::max(binary, TextCells(PrintableText(row.binary)));
  }
  columns.source = width >= kSourceFromWidth;
  size_t taken = 2 * (kPercentCells + kGap) + columns.samples + kGap + kGap;
  if (columns.source) taken += kSourceCells + kGap;
  const size_t room = width > taken ? width - taken : 0;
  // The function's name matters more: the binary gets at most a third, or what the names leave.
  columns.binary = std::min(binary, std::max(room / 3, room > symbol ? room - symbol : 0));
  if (columns.binary < std::min(binary, kLeastBinaryCells)) columns.binary = 0;
  columns.symbol = std::min(symbol, room - columns.binary);
  return columns;
}

void AppendLine(std::string& out, const Columns& columns, absl::string_view first,
                absl::string_view samples, absl::string_view second, absl::string_view symbol,
                absl::string_view binary, absl::string_view source) {
  const std::string gap(kGap, ' ');
  std::string line = absl::StrCat(
      PadLeft(first, kPercentCells), gap, PadLeft(samples, columns.samples), gap,
      PadLeft(second, kPercentCells), gap,
      PadRight(ShortenMiddle(PrintableText(symbol), columns.symbol), columns.symbol), gap);
  const std::string shown = ShortenMiddle(PrintableText(binary), columns.binary);
  if (columns.source) {
    absl::StrAppend(&line, PadRight(shown, columns.binary), gap, source);
  } else {
    line += shown;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  absl::StrAppend(&out, line, "\n");
}

}  // namespace

absl::StatusOr<HotFunctionList> HotFunctions(const ProfileIndex& index,
                                             const HotFunctionsOptions& options) {
  if (absl::Status status = index.CheckEventHasSamples(options.event); !status.ok()) return status;
  HotFunctionList list;
  list.order = options.order;
  list.event = index.EventName(options.event);
  list.weight = index.total(options.event);
  list.samples = index.samples(options.event);

  const v1::Definitions& definitions = index.profile().definitions();
  std::vector<Counts> by_stack(static_cast<size_t>(definitions.stacks_size()));
  for (const v1::ProfileEntry& entry : index.profile().entries()) {
    if (entry.event() != options.event) continue;
    Counts& counts = by_stack[static_cast<size_t>(index.StackAt(entry.stack_id()))];
    counts.value += index.Value(entry);
    counts.samples += entry.samples();
  }
  FunctionSums sums(index);
  for (int i = 0; i < definitions.stacks_size(); ++i) {
    const Counts& counts = by_stack[static_cast<size_t>(i)];
    if (counts.samples == 0 && counts.value == 0) continue;
    sums.AddStack(definitions.stacks(i), counts);
    if (!IsWhole(definitions.stacks(i).verdict())) list.incomplete_samples += counts.samples;
  }

  list.rows = sums.Take(list.weight);
  std::sort(list.rows.begin(), list.rows.end(), [&](const HotFunction& a, const HotFunction& b) {
    const auto key = [&](const HotFunction& f) {
      return options.order == Order::kSelf ? std::pair(f.self, f.total)
                                           : std::pair(f.total, f.self);
    };
    if (key(a) != key(b)) return key(a) > key(b);
    return std::tie(a.symbol, a.binary, a.source) < std::tie(b.symbol, b.binary, b.source);
  });
  if (options.limit != 0 && list.rows.size() > options.limit) {
    list.functions_not_shown = list.rows.size() - options.limit;
    for (size_t i = options.limit; i < list.rows.size(); ++i) {
      list.self_not_shown += list.rows[i].self;
    }
    list.rows.resize(options.limit);
  }
  return list;
}

std::string RenderHotFunctions(const HotFunctionList& list, size_t width) {
  width = std::max(width, kLeastWidth);
  const Columns columns = FitColumns(list, width);
  const bool by_self = list.order == Order::kSelf;
  std::string out;
  AppendLine(out, columns, by_self ? "SELF%" : "TOTAL%", "SAMPLES", by_self ? "TOTAL%" : "SELF%",
             "FUNCTION", "BINARY", "SOURCE");
  for (const HotFunction& row : list.rows) {
    const std::string self = PercentFigure(row.self, list.weight);
    const std::string total = PercentFigure(row.total, list.weight);
    AppendLine(out, columns, by_self ? self : total,
               FormatCount(by_self ? row.self_samples : row.total_samples), by_self ? total : self,
               row.symbol, row.binary, FrameSourceName(row.source));
  }
  const std::string event = PrintableText(list.event);
  std::string footer = absl::StrCat(FormatCountOf(list.samples, "sample"), " of ", event, ". ");
  if (list.functions_not_shown == 0) {
    absl::StrAppend(&footer, "All ", FormatCountOf(list.rows.size(), "function"), " shown.");
  } else {
    absl::StrAppend(&footer, FormatCountOf(list.functions_not_shown, "function"), " with ",
                    FormatPercent(list.self_not_shown, list.weight), " of self not shown.");
  }
  if (list.incomplete_samples != 0) {
    absl::StrAppend(&footer, " ", FormatPercent(list.incomplete_samples, list.samples),
                    " of the stacks are not known to be complete: what they lack is missing from "
                    "TOTAL%.");
  }
  absl::StrAppend(&out, "\n", WrapText(footer, width), "\n");
  return out;
}

}  // namespace lbrd::client
