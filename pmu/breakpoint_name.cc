#include "pmu/breakpoint_name.h"

#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::pmu {
namespace {

constexpr absl::string_view kPrefix = "mem:";

absl::Status Wrong(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("event '", name, "': ", what, "; breakpoints look like mem:0x7ffe1230/8:rw"));
}

bool ParseAddress(absl::string_view text, uint64_t* address) {
  if (absl::StartsWith(text, "0x") || absl::StartsWith(text, "0X")) {
    return text.size() > 2 && absl::ascii_isxdigit(static_cast<unsigned char>(text[2])) &&
           absl::SimpleHexAtoi(text, address);
  }
  return absl::SimpleAtoi(text, address);
}

// Whether all of `text` is of these letters, none twice.
bool Consists(absl::string_view text, absl::string_view letters) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (letters.find(text[i]) == absl::string_view::npos ||
        text.find(text[i], i + 1) != absl::string_view::npos) {
      return false;
    }
  }
  return !text.empty();
}

// The parts of a name; an empty one was left out.
struct Parts {
  absl::string_view address;
  absl::string_view length;
  absl::string_view access;
  absl::string_view modifiers;
};

absl::StatusOr<Parts> Split(absl::string_view name) {
  const std::vector<absl::string_view> fields = absl::StrSplit(name.substr(kPrefix.size()), ':');
  Parts parts;
  parts.address = fields[0];
  if (const size_t slash = parts.address.find('/'); slash != absl::string_view::npos) {
    parts.length = parts.address.substr(slash + 1);
    parts.address = parts.address.substr(0, slash);
    if (parts.length.empty()) return Wrong(name, "there is no length after the '/'");
  }
  for (size_t i = 1; i < fields.size(); ++i) {
    const absl::string_view field = fields[i];
    const bool first = parts.access.empty() && parts.modifiers.empty();
    if (Consists(field, "rwx") && first) {
      parts.access = field;
    } else if (Consists(field, "uk") && parts.modifiers.empty()) {
      parts.modifiers = field;
    } else if (i == 1 && parts.length.empty() && !field.empty() &&
               absl::ascii_isdigit(static_cast<unsigned char>(field[0]))) {
      parts.length = field;
    } else {
      return Wrong(name, absl::StrCat("'", field,
                                      "' is neither a length, nor an access (r, w, x), "
                                      "nor a modifier (u, k), or is there twice"));
    }
  }
  return parts;
}

}  // namespace

bool IsBreakpointName(absl::string_view name) { return absl::StartsWith(name, kPrefix); }

absl::StatusOr<EventCode> ParseBreakpoint(absl::string_view name) {
  const absl::StatusOr<Parts> parts = Split(name);
  if (!parts.ok()) return parts.status();
  EventCode code{.name = std::string(name), .type = PERF_TYPE_BREAKPOINT};
  code.unit = "hits";
  if (!ParseAddress(parts->address, &code.config1)) {
    return Wrong(name, absl::StrCat("'", parts->address, "' is not an address"));
  }
  const bool reads = parts->access.empty() || absl::StrContains(parts->access, 'r');
  const bool writes = parts->access.empty() || absl::StrContains(parts->access, 'w');
  const bool executes = absl::StrContains(parts->access, 'x');
  if (executes && (reads || writes)) return Wrong(name, "execution (x) goes alone");
  if (reads && !writes) {
    return Wrong(name, "this CPU cannot break on reads alone; use rw");
  }
  if (reads) code.breakpoint_type |= HW_BREAKPOINT_R;
  if (writes) code.breakpoint_type |= HW_BREAKPOINT_W;
  if (executes) code.breakpoint_type |= HW_BREAKPOINT_X;
  code.config2 = executes ? sizeof(long) : 4;
  if (!parts->length.empty()) {
    uint64_t length = 0;
    if (!absl::SimpleAtoi(parts->length, &length) ||
        (length != 1 && length != 2 && length != 4 && length != 8)) {
      return Wrong(name, absl::StrCat("'", parts->length, "' is not a length; 1, 2, 4 and 8 are"));
    }
    if (executes && length != sizeof(long)) {
      return Wrong(name, absl::StrCat("execution (x) has length ", sizeof(long),
                                      ", or leave the length out"));
    }
    code.config2 = length;
  }
  if (!executes && code.config1 % code.config2 != 0) {
    return Wrong(name, absl::StrCat("the address is not a multiple of the length, ", code.config2));
  }
  if (!parts->modifiers.empty()) {
    code.exclude_user = !absl::StrContains(parts->modifiers, 'u');
    code.exclude_kernel = !absl::StrContains(parts->modifiers, 'k');
  }
  return code;
}

}  // namespace lbrd::pmu
