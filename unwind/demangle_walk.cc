#include "unwind/demangle_walk.h"

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace lbrd::unwind {
namespace {

// Walks a tree the way libiberty does to print it, but counts instead of printing. Where
// libiberty's way depends on more than is followed here, this one takes every way it might.
class PrintWalk {
 public:
  using Component = demangle_component;

  // False: too many steps, or not printable.
  bool Run(const Component* root) {
    Push({root, nullptr, nullptr, kWholePack});
    while (!pending_.empty()) {
      if (++steps_ > kMaxSteps || unprintable_) return false;
      const Visit visit = pending_.back();
      pending_.pop_back();
      Expand(visit);
    }
    return !unprintable_;
  }

 private:
  static constexpr uint64_t kMaxSteps = 1 << 19;

  // The templates whose arguments template parameters stand for, innermost first.
  struct Scope {
    const Component* pattern;
    const Scope* outer;
  };

  struct Visit {
    const Component* component;
    const Scope* scope;
    const Component* current_template;  // whose name or arguments it is in
    int pack_index;                     // which of a pack's elements is meant; kWholePack
  };
  static constexpr int kWholePack = -1;

  void Push(const Visit& visit) {
    if (visit.component != nullptr) pending_.push_back(visit);
  }

  static Visit With(Visit visit, const Component* component) {
    visit.component = component;
    return visit;
  }

  const Scope* Enter(const Component* pattern, const Scope* outer) {
    return &scopes_.emplace_back(Scope{pattern, outer});
  }

  void Expand(Visit visit) {
    const Component* c = visit.component;
    switch (c->type) {
      case DEMANGLE_COMPONENT_TYPED_NAME:
        if (const Component* pattern = TemplateOf(c)) visit.scope = Enter(pattern, visit.scope);
        break;
      case DEMANGLE_COMPONENT_TEMPLATE:
        visit.current_template = c;
        break;
      case DEMANGLE_COMPONENT_CONVERSION:
        return ExpandConversion(visit);
      case DEMANGLE_COMPONENT_TEMPLATE_PARAM:
        return ExpandParameter(visit);
      case DEMANGLE_COMPONENT_REFERENCE:
      case DEMANGLE_COMPONENT_RVALUE_REFERENCE:
        ExpandReference(visit);
        break;
      case DEMANGLE_COMPONENT_PACK_EXPANSION:
        return ExpandPack(visit);
      case DEMANGLE_COMPONENT_UNARY:
      case DEMANGLE_COMPONENT_BINARY:
      case DEMANGLE_COMPONENT_TRINARY:
        visit.pack_index = kWholePack;  // it may be a fold expression
        break;
      default:
        break;
    }
    const auto [left, right] = Children(c);
    Push(With(visit, right));
    Push(With(visit, left));
  }

  // The type of a conversion operator is in the scope of the operator's own template arguments, its
  // arguments are not.
  void ExpandConversion(const Visit& visit) {
    const Component* type = visit.component->u.s_binary.left;
    Visit inner = visit;
    if (visit.current_template != nullptr) {
      inner.scope = Enter(visit.current_template, visit.scope);
    }
    if (type != nullptr && type->type == DEMANGLE_COMPONENT_TEMPLATE) {
      Push(With(visit, type->u.s_binary.right));
      type = type->u.s_binary.left;
    }
    Push(With(inner, type));
  }

  void ExpandParameter(Visit visit) {
    const Component* argument = ArgumentOf(visit.component, visit.scope);
    if (argument == nullptr) return;
    if (argument->type == DEMANGLE_COMPONENT_TEMPLATE_ARGLIST && visit.pack_index >= 0) {
      const Component* element = Element(argument, visit.pack_index);
      if (element != nullptr) argument = element;
    }
    visit.scope = visit.scope->outer;
    Push(With(visit, argument));
  }

  // A reference to a template parameter keeps the scope that it was first met in.
  void ExpandReference(Visit visit) {
    const Component* target = visit.component->u.s_binary.left;
    if (target == nullptr || target->type != DEMANGLE_COMPONENT_TEMPLATE_PARAM) return;
    steps_ += first_scopes_.size();
    const auto [first, is_new] = first_scopes_.emplace(target, visit.scope);
    if (is_new || Same(first->second, visit.scope)) return;
    visit.scope = first->second;
    Push(With(visit, target));
  }

  void ExpandPack(Visit visit) {
    const Component* pattern = visit.component->u.s_binary.left;
    const Component* pack = FindPack(pattern, visit.scope);
    if (pack == nullptr) return Push(With(visit, pattern));
    visit.pack_index = 0;
    // An empty pack does not spare the search for it.
    do {
      Push(With(visit, pattern));
      ++visit.pack_index;
      pack = pack->u.s_binary.right;
    } while (pack != nullptr && ++steps_ <= kMaxSteps);
  }

  // As libiberty does, depth first.
  const Component* FindPack(const Component* pattern, const Scope* scope) {
    std::vector<const Component*> search = {pattern};
    while (!search.empty() && ++steps_ <= kMaxSteps) {
      const Component* c = search.back();
      search.pop_back();
      if (c == nullptr || c->type == DEMANGLE_COMPONENT_PACK_EXPANSION) continue;
      if (c->type == DEMANGLE_COMPONENT_EXTENDED_BUILTIN_TYPE) {
        // libiberty takes it for an inner component here, and what it holds for components.
        unprintable_ = true;
        return nullptr;
      }
      if (c->type == DEMANGLE_COMPONENT_TEMPLATE_PARAM) {
        const Component* argument = ArgumentOf(c, scope);
        if (argument != nullptr && argument->type == DEMANGLE_COMPONENT_TEMPLATE_ARGLIST) {
          return argument;
        }
        continue;
      }
      const auto [left, right] = Children(c);
      search.push_back(right);
      search.push_back(left);
    }
    return nullptr;
  }

  const Component* ArgumentOf(const Component* parameter, const Scope* scope) {
    if (scope == nullptr) return nullptr;
    return Element(scope->pattern->u.s_binary.right, parameter->u.s_number.number);
  }

  const Component* Element(const Component* list, int64_t index) {
    for (; list != nullptr && list->type == DEMANGLE_COMPONENT_TEMPLATE_ARGLIST && index > 0;
         --index, ++steps_) {
      list = list->u.s_binary.right;
    }
    if (list == nullptr || list->type != DEMANGLE_COMPONENT_TEMPLATE_ARGLIST || index != 0) {
      return nullptr;
    }
    return list->u.s_binary.left;
  }

  bool Same(const Scope* a, const Scope* b) {
    while (a != b && a != nullptr && b != nullptr && a->pattern == b->pattern) {
      ++steps_;
      a = a->outer;
      b = b->outer;
    }
    return a == b;
  }

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

  std::vector<Visit> pending_;
  std::deque<Scope> scopes_;
  absl::flat_hash_map<const Component*, const Scope*> first_scopes_;
  uint64_t steps_ = 0;
  bool unprintable_ = false;
};

}  // namespace

bool PrintsInTime(const demangle_component* root) {
  PrintWalk walk;
  return walk.Run(root);
}

}  // namespace lbrd::unwind
