#include "daemon/process_status.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace lbrd::daemon {
namespace {

std::optional<ProcessUsers> Users(const std::vector<absl::string_view>& words) {
  ProcessUsers users;
  if (words.size() != 5 || !absl::SimpleAtoi(words[1], &users.real) ||
      !absl::SimpleAtoi(words[2], &users.effective) || !absl::SimpleAtoi(words[3], &users.saved) ||
      !absl::SimpleAtoi(words[4], &users.file_system)) {
    return std::nullopt;
  }
  return users;
}

}  // namespace

ProcessStatus ParseProcessStatus(absl::string_view text) {
  ProcessStatus status;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar("\t "), absl::SkipEmpty());
    if (words.size() < 2) continue;
    if (words[0] == "Uid:") status.users = Users(words);
    // One pid a namespace, the outermost first.
    int32_t pid = 0;
    if (words[0] == "NSpid:" && absl::SimpleAtoi(words.back(), &pid)) status.namespaced_pid = pid;
    uint64_t held = 0;
    if (words[0] == "CapPrm:" && absl::SimpleHexAtoi(words[1], &held)) {
      status.permitted_capabilities = held;
    }
  }
  return status;
}

}  // namespace lbrd::daemon
