#include "client/folded.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

std::string Field(absl::string_view text) {
  std::string field = PrintableText(text);
  std::replace(field.begin(), field.end(), ';', ':');
  return field;
}

}  // namespace

absl::StatusOr<std::string> RenderFolded(const ProfileIndex& index, uint32_t event) {
  if (absl::Status status = index.CheckEventHasSamples(event); !status.ok()) return status;
  absl::flat_hash_map<std::string, uint64_t> values;
  for (const v1::ProfileEntry& entry : index.profile().entries()) {
    if (entry.event() != event || index.Value(entry) == 0) continue;
    std::string line = Field(ProcessName(index.thread(entry.thread_id())));
    const v1::Stack& stack = index.stack(entry.stack_id());
    if (!IsWhole(stack.verdict())) {
      absl::StrAppend(&line, ";[", Field(VerdictText(stack.verdict())), "]");
    }
    for (int i = stack.frame_ids_size() - 1; i >= 0; --i) {
      absl::StrAppend(&line, ";", Field(index.FrameLabel(index.frame(stack.frame_ids(i)))));
    }
    values[std::move(line)] += index.Value(entry);
  }
  std::vector<std::pair<std::string, uint64_t>> lines(values.begin(), values.end());
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const auto& [line, value] : lines) absl::StrAppend(&out, line, " ", value, "\n");
  return out;
}

}  // namespace lbrd::client
