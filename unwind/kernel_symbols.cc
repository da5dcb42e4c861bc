#include "unwind/kernel_symbols.h"

#include <algorithm>
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

std::optional<Line> ParseLine(absl::string_view text) {
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

// Symbols that stand where code ends. Nothing is in them, but the function before ends there.
bool MarksEnd(absl::string_view name) { return name == "_etext" || name == "_einittext"; }

}  // namespace

absl::StatusOr<KernelSymbols> KernelSymbols::Parse(absl::string_view text) {
  if (text.size() > UINT32_MAX) {
    return absl::InvalidArgumentError("kallsyms text of more than 4 GiB");
  }
  std::vector<Line> lines;
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
    if (absl::string_view("tTwW").find(parsed->type) == absl::string_view::npos) continue;
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

  std::sort(lines.begin(), lines.end(), Before);
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
