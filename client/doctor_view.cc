#include "client/doctor_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/figures.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

constexpr size_t kLeastWidth = 60;
constexpr size_t kVerdictCells = 9;  // "not tried"
constexpr size_t kNameCells = 17;    // "lbr-over-switches"
constexpr size_t kNameColumn = 2 + kVerdictCells + 2;
constexpr size_t kValueColumn = kNameColumn + kNameCells + 2;

struct Word {
  const char* mark;
  const char* verdict;
};

Word WordOf(v1::ProbeVerdict verdict) {
  switch (verdict) {
    case v1::PROBE_VERDICT_OK:
      return {"✓", "ok"};
    case v1::PROBE_VERDICT_DEGRADED:
      return {"!", "degraded"};
    case v1::PROBE_VERDICT_MISSING:
      return {"✗", "missing"};
    case v1::PROBE_VERDICT_NOT_TRIED:
      return {"-", "not tried"};
    default:
      return {"?", "unknown"};
  }
}

bool Bad(const v1::Probe& probe) {
  return probe.verdict() != v1::PROBE_VERDICT_OK && probe.verdict() != v1::PROBE_VERDICT_NOT_TRIED;
}

std::string Padded(absl::string_view text, size_t cells) {
  const size_t taken = TextCells(text);
  return absl::StrCat(text, std::string(taken < cells ? cells - taken : 0, ' '));
}

// The text with its first line behind `lead`, and the others under it.
void AppendWrapped(absl::string_view lead, absl::string_view text, size_t column, size_t width,
                   std::string* out) {
  const std::string wrapped = WrapText(PrintableText(text), width - column);
  bool first = true;
  for (const absl::string_view line : absl::StrSplit(wrapped, '\n')) {
    absl::StrAppend(out, first ? std::string(lead) : std::string(column, ' '), line, "\n");
    first = false;
  }
}

void AppendProbe(const v1::Probe& probe, size_t width, std::string* out) {
  const Word word = WordOf(probe.verdict());
  const std::string lead = absl::StrCat(word.mark, " ", Padded(word.verdict, kVerdictCells), "  ",
                                        Padded(PrintableText(probe.name()), kNameCells), "  ");
  // A name from a newer daemon may be longer than any of ours.
  AppendWrapped(lead, probe.value(), std::max(kValueColumn, TextCells(lead)), width, out);
  if (!Bad(probe)) return;
  const std::string indent(kNameColumn, ' ');
  if (!probe.why().empty()) AppendWrapped(indent, probe.why(), kNameColumn, width, out);
  if (!probe.action().empty()) {
    AppendWrapped(absl::StrCat(indent, "→ "), probe.action(), kNameColumn + 2, width, out);
  }
}

}  // namespace

std::string RenderDoctor(const v1::Capabilities& capabilities, size_t width) {
  width = std::max(width, kLeastWidth);
  std::string text;
  if (!capabilities.kernel_release().empty()) {
    AppendWrapped("",
                  absl::StrCat("lbrd ", capabilities.version(), " on Linux ",
                               capabilities.kernel_release(), ", ", capabilities.architecture(),
                               ", ", FormatCountOf(capabilities.cpus_online(), "CPU")),
                  0, width, &text);
    absl::StrAppend(&text, "\n");
  }
  for (const v1::Probe& probe : capabilities.probes()) AppendProbe(probe, width, &text);
  if (!capabilities.stacks().empty()) {
    absl::StrAppend(&text, "\n");
    AppendWrapped("", capabilities.stacks(), 0, width, &text);
  }
  for (const std::string& note : capabilities.notes()) {
    absl::StrAppend(&text, "\n");
    AppendWrapped("", note, 0, width, &text);
  }
  return text;
}

int DoctorExitCode(const v1::Capabilities& capabilities) {
  if (capabilities.probes().empty()) return 2;
  int code = 0;
  for (const v1::Probe& probe : capabilities.probes()) {
    if (!Bad(probe)) continue;
    const bool fatal = probe.essential() && probe.verdict() == v1::PROBE_VERDICT_MISSING;
    code = std::max(code, fatal ? 2 : 1);
  }
  return code;
}

}  // namespace lbrd::client
