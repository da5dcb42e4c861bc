#include "unwind/kernel_symbols.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace lbrd::unwind {
namespace {

// How far a function reaches when the next symbol is further away: kallsyms gives no sizes. Between
// two symbols of one module lies the first one's code, after the last one may lie anything.
constexpr uint64_t kMaxFunctionBytes = 1 << 20;
constexpr uint64_t kMaxLastFunctionBytes = 64 << 10;

// Or more; what is reserved and not used is never touched.
constexpr size_t kUsualLineBytes = 32;

// A hexadecimal digit's value; 0x80: it is none.
constexpr std::array<uint8_t, 256> kDigitOf = [] {
  std::array<uint8_t, 256> digits{};
  digits.fill(0x80);
  for (uint8_t i = 0; i < 10; ++i) digits['0' + i] = i;
  for (uint8_t i = 0; i < 6; ++i) digits['a' + i] = digits['A' + i] = 10 + i;
  return digits;
}();

struct Line {
  uint64_t address = 0;
  char type = 0;
  absl::string_view name;
  absl::string_view module;
};

absl::string_view NextWord(absl::string_view* rest) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  size_t begin = 0;
  while (begin < rest->size() && is_space((*rest)[begin])) ++begin;
  size_t end = begin;
  while (end < rest->size() && !is_space((*rest)[end])) ++end;
  const absl::string_view word = rest->substr(begin, end - begin);
  rest->remove_prefix(end);
  return word;
}

std::optional<uint64_t> ParseAddress(absl::string_view word) {
  if (word.empty() || word.size() > 16) return std::nullopt;
  uint64_t address = 0;
  for (const char c : word) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return std::nullopt;
    const char digit = absl::ascii_tolower(static_cast<unsigned char>(c));
    address = address << 4 | static_cast<uint64_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  return address;
}

// 16 digits, a blank, the type, a blank, the name, and for a module's a tab and its name in
// brackets: as the kernel writes all of them. nullopt: it is written in another way.
std::optional<Line> ParseUsualLine(absl::string_view text) {
  constexpr size_t kDigits = 16;
  constexpr size_t kName = kDigits + 3;
  if (text.size() <= kName || text[kDigits] != ' ' || text[kDigits + 2] != ' ') {
    return std::nullopt;
  }
  Line line{.type = text[kDigits + 1]};
  uint8_t bad = 0;
  for (size_t i = 0; i < kDigits; ++i) {
    const uint8_t digit = kDigitOf[static_cast<unsigned char>(text[i])];
    bad |= digit;
    line.address = line.address << 4 | (digit & 15);
  }
  absl::string_view rest = text.substr(kName);
  if ((bad & 0x80) != 0 || absl::ascii_isspace(static_cast<unsigned char>(line.type)) ||
      rest.find(' ') != absl::string_view::npos) {
    return std::nullopt;
  }
  const size_t tab = rest.find('\t');
  line.name = rest.substr(0, tab);
  if (line.name.empty() || rest.back() == '\r') return std::nullopt;
  if (tab == absl::string_view::npos) return line;
  rest.remove_prefix(tab + 1);
  if (rest.size() < 3 || rest.front() != '[' || rest.back() != ']' ||
      rest.find('\t') != absl::string_view::npos) {
    return std::nullopt;
  }
  line.module = rest.substr(1, rest.size() - 2);
  return line;
}

std::optional<Line> ParseLine(absl::string_view text) {
  if (const std::optional<Line> usual = ParseUsualLine(text); usual.has_value()) return usual;
  const std::optional<uint64_t> address = ParseAddress(NextWord(&text));
  const absl::string_view type = NextWord(&text);
  const absl::string_view name = NextWord(&text);
  absl::string_view module = NextWord(&text);
  if (!address.has_value() || type.size() != 1 || name.empty() || !NextWord(&text).empty()) {
    return std::nullopt;
  }
  if (!module.empty()) {
    if (module.size() < 3 || module.front() != '[' || module.back() != ']') return std::nullopt;
    module = module.substr(1, module.size() - 2);
  }
  return Line{.address = *address, .type = type[0], .name = name, .module = module};
}

int RankOf(char type) { return type == 'T' ? 0 : absl::ascii_isupper(type) ? 1 : 2; }

// By address, and the best name of each address first.
bool Before(const Line& a, const Line& b) {
  const auto key = [](const Line& line) {
    const size_t underscores = std::min(line.name.find_first_not_of('_'), line.name.size());
    return std::tuple(line.address, RankOf(line.type), underscores, line.name.size(), line.name,
                      line.module);
  };
  return a.address != b.address ? a.address < b.address : key(a) < key(b);
}

// The kernel writes its own names in this order, but for those of one address, and modules' after
// them.
void SortLines(std::vector<Line>* lines) {
  const auto by_address = [](const Line& a, const Line& b) { return a.address < b.address; };
  if (!std::is_sorted(lines->begin(), lines->end(), by_address)) {
    std::sort(lines->begin(), lines->end(), Before);
    return;
  }
  for (auto first = lines->begin(); first != lines->end();) {
    const auto other = std::find_if(first + 1, lines->end(),
                                    [first](const Line& l) { return l.address != first->address; });
    if (other - first > 1) std::sort(first, other, Before);
    first = other;
  }
}

// Symbols that stand where code ends. Nothing is in them, but the function before ends there.
bool MarksEnd(absl::string_view name) { return name == "_etext" || name == "_einittext"; }

}  // namespace

absl::StatusOr<KernelSymbols> KernelSymbols::Parse(absl::string_view text) {
  if (text.size() > UINT32_MAX) {
    return absl::InvalidArgumentError("kallsyms text of more than 4 GiB");
  }
  std::vector<Line> lines;
  lines.reserve(text.size() / kUsualLineBytes);
  size_t number = 0;
  bool any_hidden = false;
  while (!text.empty()) {
    const absl::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++number;
    if (line.empty()) continue;
    const std::optional<Line> parsed = ParseLine(line);
    if (!parsed.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "kallsyms line ", number, " is not of the form \"address type name [module]\""));
    }
    const char type = parsed->type;
    if (type != 't' && type != 'T' && type != 'w' && type != 'W') continue;
    if (parsed->address == 0) {
      any_hidden = true;
    } else {
      lines.push_back(*parsed);
    }
  }
  if (lines.empty()) {
    return absl::FailedPreconditionError(
        any_hidden ? "the kernel hides its addresses: set kernel.kptr_restrict to 0 or 1 and read "
                     "/proc/kallsyms with CAP_SYSLOG"
                   : "the kernel lists no functions in /proc/kallsyms");
  }

  SortLines(&lines);
  lines.erase(std::unique(lines.begin(), lines.end(),
                          [](const Line& a, const Line& b) { return a.address == b.address; }),
              lines.end());
  size_t name_bytes = 0;
  for (const Line& line : lines) name_bytes += line.name.size();

  KernelSymbols symbols;
  symbols.entries_.reserve(lines.size());
  symbols.names_.reserve(name_bytes);
  absl::flat_hash_map<absl::string_view, uint32_t> modules;
  for (const Line& line : lines) {
    const auto [module, is_new] =
        modules.emplace(line.module, static_cast<uint32_t>(symbols.modules_.size()));
    if (is_new) symbols.modules_.emplace_back(line.module);
    symbols.entries_.push_back({.start = line.address,
                                .name = static_cast<uint32_t>(symbols.names_.size()),
                                .name_size = static_cast<uint32_t>(line.name.size()),
                                .module = module->second});
    absl::StrAppend(&symbols.names_, line.name);
  }
  return symbols;
}

std::optional<KernelSymbol> KernelSymbols::Find(uint64_t address) const {
  const auto after =
      std::upper_bound(entries_.begin(), entries_.end(), address,
                       [](uint64_t value, const Entry& entry) { return value < entry.start; });
  if (after == entries_.begin()) return std::nullopt;
  const Entry& entry = *std::prev(after);
  const bool is_last = after == entries_.end() || after->module != entry.module;
  const uint64_t reach = is_last ? kMaxLastFunctionBytes : kMaxFunctionBytes;
  const absl::string_view name = absl::string_view(names_).substr(entry.name, entry.name_size);
  if (address - entry.start >= reach || MarksEnd(name)) return std::nullopt;
  return KernelSymbol{.name = name, .module = modules_[entry.module], .start = entry.start};
}

}  // namespace lbrd::unwind
