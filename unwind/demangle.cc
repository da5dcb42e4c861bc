#include "unwind/demangle.h"

// libiberty's own declaration of basename() contradicts that of the C library.
#define HAVE_DECL_BASENAME 1
#include <libiberty/demangle.h>
#include <setjmp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

// libiberty bounds its recursion, but neither its output nor its time: a mangled name of 300 bytes
// can ask for days of both. So each name is checked first for what makes it run away, and the
// printing is stopped from its callback.

namespace lbrd::unwind {
namespace {

// The parser recurses as the name nests: this keeps it within 2 MiB of stack.
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

// How many components libiberty visits at most to print a tree. Components are shared (that is what
// substitutions are), and template parameters stand for trees elsewhere, so a short name can make
// for an endless walk that does not even have to print anything.
class PrintCost {
 public:
  using Component = demangle_component;

  static bool IsBounded(const Component* root) {
    PrintCost cost;
    return cost.Order(root) && cost.Bounded(root);
  }

 private:
  static constexpr uint64_t kMaxVisits = 1 << 20;
  // Template arguments rarely depend on template parameters, and never so deeply.
  static constexpr int kMaxParameterDepth = 4;

  struct Node {
    bool done = false;
    uint64_t visits = 0;
    uint64_t list_length = 0;  // of a list of template arguments, from this one on
  };

  static std::pair<const Component*, const Component*> Children(const Component* c) {
    switch (c->type) {
      case DEMANGLE_COMPONENT_NAME:
      case DEMANGLE_COMPONENT_SUB_STD:
      case DEMANGLE_COMPONENT_TEMPLATE_PARAM:
      case DEMANGLE_COMPONENT_FUNCTION_PARAM:
      case DEMANGLE_COMPONENT_UNNAMED_TYPE:
      case DEMANGLE_COMPONENT_NUMBER:
      case DEMANGLE_COMPONENT_CHARACTER:
      case DEMANGLE_COMPONENT_OPERATOR:
      case DEMANGLE_COMPONENT_BUILTIN_TYPE:
      case DEMANGLE_COMPONENT_EXTENDED_BUILTIN_TYPE:
        return {nullptr, nullptr};
      case DEMANGLE_COMPONENT_LAMBDA:
      case DEMANGLE_COMPONENT_DEFAULT_ARG:
        return {c->u.s_unary_num.sub, nullptr};
      case DEMANGLE_COMPONENT_EXTENDED_OPERATOR:
        return {c->u.s_extended_operator.name, nullptr};
      case DEMANGLE_COMPONENT_FIXED_TYPE:
        return {c->u.s_fixed.length, nullptr};
      case DEMANGLE_COMPONENT_CTOR:
        return {c->u.s_ctor.name, nullptr};
      case DEMANGLE_COMPONENT_DTOR:
        return {c->u.s_dtor.name, nullptr};
      default:
        return {c->u.s_binary.left, c->u.s_binary.right};
    }
  }

  // Lists the tree's components, children first. False: it is not a tree that libiberty can print.
  bool Order(const Component* root) {
    bool has_expansion = false;
    bool has_extended_builtin = false;
    std::vector<const Component*> pending = {root};
    while (!pending.empty()) {
      const Component* c = pending.back();
      const auto [entry, is_new] = nodes_.try_emplace(c);
      if (!is_new) {
        pending.pop_back();
        if (!entry->second.done) {
          entry->second.done = true;
          ordered_.push_back(c);
        }
        continue;
      }
      has_expansion |= c->type == DEMANGLE_COMPONENT_PACK_EXPANSION;
      has_extended_builtin |= c->type == DEMANGLE_COMPONENT_EXTENDED_BUILTIN_TYPE;
      has_parameter_ |= c->type == DEMANGLE_COMPONENT_TEMPLATE_PARAM;
      has_conversion_ |= c->type == DEMANGLE_COMPONENT_CONVERSION;
      const auto [left, right] = Children(c);
      for (const Component* child : {right, left}) {
        if (child == nullptr) continue;
        const auto known = nodes_.find(child);
        if (known == nodes_.end()) {
          pending.push_back(child);
        } else if (!known->second.done) {
          return false;  // what is not done yet is on the way here: a cycle
        }
      }
    }
    // Looking for the pack to expand, libiberty takes an extended built-in type for an inner node.
    return !(has_expansion && has_extended_builtin);
  }

  uint64_t VisitsOf(const Component* c) const { return c == nullptr ? 0 : nodes_.at(c).visits; }

  // The function template whose arguments the parameters within `typed_name` stand for.
  static const Component* TemplateOf(const Component* typed_name) {
    const Component* c = typed_name->u.s_binary.left;
    while (c != nullptr) {
      switch (c->type) {
        case DEMANGLE_COMPONENT_TEMPLATE:
          return c;
        case DEMANGLE_COMPONENT_LOCAL_NAME:
          c = c->u.s_binary.right;
          break;
        case DEMANGLE_COMPONENT_DEFAULT_ARG:
          c = c->u.s_unary_num.sub;
          break;
        case DEMANGLE_COMPONENT_RESTRICT_THIS:
        case DEMANGLE_COMPONENT_VOLATILE_THIS:
        case DEMANGLE_COMPONENT_CONST_THIS:
        case DEMANGLE_COMPONENT_REFERENCE_THIS:
        case DEMANGLE_COMPONENT_RVALUE_REFERENCE_THIS:
        case DEMANGLE_COMPONENT_TRANSACTION_SAFE:
        case DEMANGLE_COMPONENT_NOEXCEPT:
        case DEMANGLE_COMPONENT_THROW_SPEC:
          c = c->u.s_binary.left;
          break;
        default:
          return nullptr;
      }
    }
    return nullptr;
  }

  // Counts visits, where a template parameter takes `parameter_visits`. Returns how many the
  // largest arguments that a parameter can stand for take.
  uint64_t Count(uint64_t parameter_visits) {
    uint64_t largest_arguments = 1;
    uint64_t longest_list = 0;
    for (const Component* c : ordered_) {
      const auto [left, right] = Children(c);
      Node& node = nodes_.at(c);
      node.visits = 1 + VisitsOf(left) + VisitsOf(right);
      if (c->type == DEMANGLE_COMPONENT_TEMPLATE_PARAM) {
        node.visits += parameter_visits;
      } else if (c->type == DEMANGLE_COMPONENT_TEMPLATE_ARGLIST) {
        node.list_length = 1 + (right != nullptr ? nodes_.at(right).list_length : 0);
        longest_list = std::max(longest_list, node.list_length);
      } else if (c->type == DEMANGLE_COMPONENT_PACK_EXPANSION) {
        // Lists that come later in the order count through this bound alone.
        node.visits *= 1 + std::max(longest_list, longest_list_);
      }
      node.visits = std::min(node.visits, kMaxVisits + 1);
      const Component* pattern = nullptr;
      if (c->type == DEMANGLE_COMPONENT_TYPED_NAME) pattern = TemplateOf(c);
      if (c->type == DEMANGLE_COMPONENT_TEMPLATE && has_conversion_) pattern = c;
      if (pattern != nullptr) {
        largest_arguments = std::max(largest_arguments, VisitsOf(pattern->u.s_binary.right));
      }
    }
    longest_list_ = longest_list;
    return largest_arguments;
  }

  bool Bounded(const Component* root) {
    uint64_t parameter_visits = Count(1);
    if (!has_parameter_) return VisitsOf(root) <= kMaxVisits;
    for (int depth = 0; depth < kMaxParameterDepth; ++depth) {
      const uint64_t next = Count(parameter_visits);
      if (VisitsOf(root) > kMaxVisits) return false;
      if (next == parameter_visits) return true;
      parameter_visits = next;
    }
    return false;
  }

  absl::flat_hash_map<const Component*, Node> nodes_;
  std::vector<const Component*> ordered_;  // children first
  bool has_parameter_ = false;
  bool has_conversion_ = false;
  uint64_t longest_list_ = 0;
};

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
  if (tree == nullptr || !PrintCost::IsBounded(tree)) return std::nullopt;
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
