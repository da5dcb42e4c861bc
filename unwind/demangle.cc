#include "unwind/demangle.h"

#include <setjmp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "unwind/demangle_walk.h"

// libiberty bounds its recursion, but neither its output nor its time: a mangled name of 300 bytes
// can ask for days of both. So each name is checked first for what makes it run away, and the
// printing is stopped from its callback.

namespace lbrd::unwind {
namespace {

// The parser recurses as the name nests: with this, 4 MiB of stack are enough for it.
constexpr size_t kMaxMangledBytes = 8192;
constexpr size_t kMaxCallbacks = 1 << 16;

// Where a demangler puts its text.
struct Output {
  std::string text;
  size_t callbacks = 0;
  bool excessive = false;
  jmp_buf stop;
};

// Leaves the demangler by longjmp() once there is too much. Nothing on the way has a destructor:
// the frames between are libiberty's, in C. What it may hold on the heap meanwhile is the text of a
// decoded Punycode identifier; that one is never ASCII, so it is let go on until the next piece.
void Append(const char* text, size_t size, void* opaque) {
  auto* output = static_cast<Output*>(opaque);
  if (++output->callbacks > kMaxCallbacks || size > kMaxDemangledBytes - output->text.size()) {
    output->excessive = true;
  }
  if (!output->excessive) {
    output->text.append(text, size);
    return;
  }
  const bool is_ascii =
      std::all_of(text, text + size, [](char c) { return (static_cast<uint8_t>(c) & 0x80) == 0; });
  if (is_ascii) longjmp(output->stop, 1);
}

// How many times a template parameter is followed by template arguments. In a conversion operator's
// type libiberty reads each such list twice, and lists in it four times, and so on.
int CountParameterLists(absl::string_view mangled) {
  int lists = 0;
  bool in_parameter = false;
  char before = 0;
  for (const char c : mangled) {
    if (c == 'T') {
      in_parameter = true;
    } else if (in_parameter && before == '_' && c == 'I') {
      ++lists;
      in_parameter = false;
    } else if (c != '_' && !absl::ascii_isdigit(static_cast<uint8_t>(c)) &&
               !absl::ascii_isupper(static_cast<uint8_t>(c))) {
      in_parameter = false;
    }
    before = c;
  }
  return lists;
}

bool ParsesInTime(absl::string_view mangled) {
  constexpr int kMaxParameterLists = 8;
  return !absl::StrContains(mangled, "cv") || CountParameterLists(mangled) <= kMaxParameterLists;
}

// Before it prints, libiberty takes 16 bytes of stack for each pair of a template and a reference
// to a template parameter. Both are counted twice at most.
bool PrintsOnStack(absl::string_view mangled) {
  constexpr size_t kMaxPairs = 32768;
  size_t templates = 0;
  size_t references = 0;
  for (size_t i = 0; i < mangled.size(); ++i) {
    if (mangled[i] == 'I') ++templates;
    if ((mangled[i] == 'R' || mangled[i] == 'O') && i + 1 < mangled.size() &&
        (mangled[i + 1] == 'T' || mangled[i + 1] == 'S')) {
      ++references;
    }
  }
  return templates * references <= kMaxPairs;
}

bool PrintTree(demangle_component* tree, Output* output) {
  if (setjmp(output->stop) != 0) return false;
  return cplus_demangle_print_callback(DMGL_NO_OPTS, tree, Append, output) != 0;
}

bool PrintRust(const char* mangled, Output* output) {
  if (setjmp(output->stop) != 0) return false;
  return rust_demangle_callback(mangled, DMGL_NO_OPTS, Append, output) != 0;
}

std::optional<std::string> DemangleCpp(const std::string& mangled) {
  if (!ParsesInTime(mangled) || !PrintsOnStack(mangled)) return std::nullopt;
  void* memory = nullptr;
  demangle_component* tree = cplus_demangle_v3_components(mangled.c_str(), DMGL_NO_OPTS, &memory);
  const std::unique_ptr<void, void (*)(void*)> owned(memory, std::free);
  if (tree == nullptr || !PrintsInTime(tree)) return std::nullopt;
  Output output;
  if (!PrintTree(tree, &output) || output.excessive) return std::nullopt;
  return std::move(output.text);
}

// How many lifetimes a Rust type binds is a number that libiberty counts up to, where it does not
// print too: 20 digits are for ever. More than 61 of them are none that anyone wrote, so of longer
// numbers all digits but the last become zeros. It may also be part of an identifier or a hash that
// looks like one. True: something was changed.
bool LimitBoundLifetimes(std::string* mangled) {
  bool changed = false;
  for (size_t i = 1; i < mangled->size(); ++i) {
    const char before = (*mangled)[i - 1];
    if ((*mangled)[i] != 'G' || (before != 'F' && before != 'D')) continue;
    size_t end = i + 1;
    while (end < mangled->size() && absl::ascii_isalnum(static_cast<uint8_t>((*mangled)[end]))) {
      ++end;
    }
    if (end == mangled->size() || (*mangled)[end] != '_' || end - i <= 2) continue;
    std::fill(mangled->begin() + static_cast<ptrdiff_t>(i) + 1,
              mangled->begin() + static_cast<ptrdiff_t>(end) - 1, '0');
    changed = true;
  }
  return changed;
}

std::optional<std::string> DemangleRust(std::string mangled) {
  const bool changed = absl::StartsWith(mangled, "_R") && LimitBoundLifetimes(&mangled);
  Output output;
  if (!PrintRust(mangled.c_str(), &output) || output.excessive) return std::nullopt;
  if (changed && (absl::StrContains(output.text, "FG0") || absl::StrContains(output.text, "DG0"))) {
    return std::nullopt;  // it was an identifier after all
  }
  return std::move(output.text);
}

// Where the suffix that compilers append to clones (".cold", ".isra.0", ".llvm.123") begins.
size_t SuffixStart(absl::string_view mangled) {
  constexpr absl::string_view kRustHash = "17h";
  constexpr size_t kRustHashBytes = kRustHash.size() + 16;
  const size_t first = std::min(mangled.find('.'), mangled.size());
  // Identifiers of legacy Rust names hold dots of their own; the hash ends them.
  for (size_t dot = first; dot < mangled.size(); dot = mangled.find('.', dot + 1)) {
    if (dot > kRustHashBytes && mangled[dot - 1] == 'E' &&
        mangled.substr(dot - 1 - kRustHashBytes, kRustHash.size()) == kRustHash) {
      return dot;
    }
  }
  if (mangled.back() == 'E' && mangled.size() > kRustHashBytes &&
      mangled.substr(mangled.size() - 1 - kRustHashBytes, kRustHash.size()) == kRustHash) {
    return mangled.size();
  }
  return first;
}

// ".isra.0.cold" as " [clone .isra.0] [clone .cold]", the way binutils prints it.
std::string CloneNotes(absl::string_view suffix) {
  std::string notes;
  while (!suffix.empty()) {
    size_t end = 1;
    while (end < suffix.size() &&
           (suffix[end] != '.' || (end + 1 < suffix.size() &&
                                   absl::ascii_isdigit(static_cast<uint8_t>(suffix[end + 1]))))) {
      ++end;
    }
    absl::StrAppend(&notes, " [clone ", suffix.substr(0, end), "]");
    suffix.remove_prefix(end);
  }
  return notes;
}

}  // namespace

std::string Demangle(absl::string_view mangled) {
  constexpr absl::string_view kPltSuffix = "@plt";
  const bool rust = absl::StartsWith(mangled, "_R");
  if ((!rust && !absl::StartsWith(mangled, "_Z")) || mangled.size() > kMaxMangledBytes ||
      absl::StrContains(mangled, '\0')) {
    return std::string(mangled);
  }
  absl::string_view name = mangled;
  absl::string_view ending;
  if (absl::EndsWith(name, kPltSuffix)) {
    name.remove_suffix(kPltSuffix.size());
    ending = kPltSuffix;
  }
  const size_t suffix = SuffixStart(name);
  const std::string base(name.substr(0, suffix));
  std::optional<std::string> demangled;
  if (rust || absl::StartsWith(base, "_ZN")) demangled = DemangleRust(base);
  if (!demangled.has_value() && !rust) demangled = DemangleCpp(base);
  if (!demangled.has_value() || demangled->empty()) return std::string(mangled);
  absl::StrAppend(&*demangled, CloneNotes(name.substr(suffix)), ending);
  return demangled->size() <= kMaxDemangledBytes ? *std::move(demangled) : std::string(mangled);
}

}  // namespace lbrd::unwind
