#include "client/output.h"

#include <google/protobuf/util/json_util.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/flame_graph.h"
#include "client/folded.h"
#include "client/hot_functions.h"
#include "client/pprof.h"
#include "client/profile_index.h"
#include "client/summary.h"

namespace lbrd::client {
namespace {

constexpr char kFormats[] = "table, svg, pprof, folded, jsonl or session";

// The number of an event: of the named one, or of the one with the most samples.
absl::StatusOr<uint32_t> EventToShow(const ProfileIndex& index, const std::string& name) {
  uint32_t most = 0;
  std::vector<std::string> names;
  for (uint32_t event = 0; event < index.event_count(); ++event) {
    names.push_back(index.EventName(event));
    if (!name.empty() && names.back() == name) return event;
    if (index.samples(event) > index.samples(most)) most = event;
  }
  if (name.empty()) return most;
  return absl::NotFoundError(absl::StrCat("--show-event: there is no '", name,
                                          "' in the profile, only ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<std::string> RenderTable(const ProfileIndex& index, const std::string& name) {
  const size_t width = TerminalWidth();
  std::string text;
  const absl::StatusOr<uint32_t> only = EventToShow(index, name);
  if (!only.ok()) return only.status();
  for (uint32_t event = 0; event < index.event_count(); ++event) {
    if (index.samples(event) == 0 || (!name.empty() && event != *only)) continue;
    HotFunctionsOptions options;
    options.event = event;
    absl::StatusOr<HotFunctionList> list = HotFunctions(index, options);
    if (!list.ok()) return list.status();
    absl::StrAppend(&text, RenderHotFunctions(*list, width), "\n");
  }
  return absl::StrCat(text, RenderSummary(index.session(), width), "\n");
}

// The session and its account as JSON, for programs.
absl::StatusOr<std::string> RenderSession(const v1::Session& session) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(session, &text, options).ok()) {
    return absl::InternalError("the session cannot be written as JSON");
  }
  return text;
}

absl::StatusOr<std::string> Render(const v1::GetProfileResponse& profile, const Output& output) {
  const absl::StatusOr<ProfileIndex> index =
      ProfileIndex::Build(profile.profile(), profile.session());
  if (!index.ok()) return index.status();
  const absl::StatusOr<uint32_t> event = EventToShow(*index, output.event);
  if (!event.ok()) return event.status();
  switch (output.format) {
    case OutputFormat::kTable:
      return RenderTable(*index, output.event);
    case OutputFormat::kFlameGraph: {
      FlameGraphOptions options;
      char host[256] = {};
      if (!profile.session().spec().target().has_recording() &&
          gethostname(host, sizeof(host) - 1) == 0) {
        options.host = host;
      }
      options.event = *event;
      return RenderFlameGraph(*index, options);
    }
    case OutputFormat::kPprof:
      return EncodePprof(*index);
    case OutputFormat::kFolded:
      return RenderFolded(*index, *event);
    case OutputFormat::kSession:
      return RenderSession(profile.session());
    case OutputFormat::kJsonl:
      break;
  }
  return absl::InternalError("a profile has no single samples to write as jsonl");
}

}  // namespace

absl::StatusOr<OutputFormat> ParseFormat(const std::string& name) {
  if (name == "table") return OutputFormat::kTable;
  if (name == "svg") return OutputFormat::kFlameGraph;
  if (name == "pprof") return OutputFormat::kPprof;
  if (name == "folded") return OutputFormat::kFolded;
  if (name == "jsonl") return OutputFormat::kJsonl;
  if (name == "session") return OutputFormat::kSession;
  return absl::InvalidArgumentError(absl::StrCat("unknown format '", name, "'; use ", kFormats));
}

absl::StatusOr<OutputFormat> FormatOfFile(const std::string& path) {
  if (absl::EndsWith(path, ".svg")) return OutputFormat::kFlameGraph;
  if (absl::EndsWith(path, ".pb.gz") || absl::EndsWith(path, ".pprof")) return OutputFormat::kPprof;
  if (absl::EndsWith(path, ".folded")) return OutputFormat::kFolded;
  if (absl::EndsWith(path, ".jsonl")) return OutputFormat::kJsonl;
  if (absl::EndsWith(path, ".json")) return OutputFormat::kSession;
  if (absl::EndsWith(path, ".txt")) return OutputFormat::kTable;
  return absl::InvalidArgumentError(absl::StrCat(
      "cannot tell the format of '", path,
      "' by its ending (.svg, .pb.gz, .pprof, .folded, .jsonl, .json, .txt); add --format ",
      kFormats));
}

absl::StatusOr<std::vector<Output>> PlanOutputs(const std::vector<std::string>& paths,
                                                const std::string& format,
                                                const std::string& event) {
  std::vector<Output> outputs;
  if (!format.empty() && paths.size() > 1) {
    return absl::InvalidArgumentError(
        "--format names one format, but -o names several files; leave --format out");
  }
  for (const std::string& path : paths) {
    const absl::StatusOr<OutputFormat> parsed =
        format.empty() ? FormatOfFile(path) : ParseFormat(format);
    if (!parsed.ok()) return parsed.status();
    outputs.push_back({path, *parsed, event});
  }
  if (paths.empty()) {
    const absl::StatusOr<OutputFormat> parsed = ParseFormat(format.empty() ? "table" : format);
    if (!parsed.ok()) return parsed.status();
    outputs.push_back({"-", *parsed, event});
  }
  if (std::count_if(outputs.begin(), outputs.end(), [](const Output& output) {
        return output.format == OutputFormat::kJsonl;
      }) > 1) {
    return absl::InvalidArgumentError("only one jsonl file at a time");
  }
  return outputs;
}

absl::StatusOr<FILE*> OpenOutput(const std::string& path) {
  if (path == "-") return stdout;
  FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  return file;
}

absl::Status CloseOutput(FILE* file, const std::string& path) {
  const bool bad = std::ferror(file) != 0;
  const int result = file == stdout ? std::fflush(file) : std::fclose(file);
  if (!bad && result == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(bad && errno == 0 ? EIO : errno,
                             absl::StrCat("cannot write all of ", path));
}

absl::Status WriteProfile(const v1::GetProfileResponse& profile, const Output& output) {
  const absl::StatusOr<std::string> text = Render(profile, output);
  if (!text.ok()) return text.status();
  const absl::StatusOr<FILE*> file = OpenOutput(output.path);
  if (!file.ok()) return file.status();
  std::fwrite(text->data(), 1, text->size(), *file);
  return CloseOutput(*file, output.path);
}

absl::Status ShowResults(const v1::GetProfileResponse& profile, const std::vector<Output>& outputs,
                         bool quiet) {
  bool summary_shown = false;
  bool stdout_taken = false;
  for (const Output& output : outputs) {
    stdout_taken = stdout_taken || output.path == "-";
    if (output.format == OutputFormat::kJsonl) continue;  // streamed already
    if (absl::Status written = WriteProfile(profile, output); !written.ok()) return written;
    summary_shown = summary_shown || (output.format == OutputFormat::kTable && output.path == "-");
    if (output.path != "-" && !quiet) std::fprintf(stderr, "wrote %s\n", output.path.c_str());
  }
  if (!summary_shown && !quiet) {
    std::fprintf(stdout_taken ? stderr : stdout, "%s\n",
                 RenderSummary(profile.session(), TerminalWidth()).c_str());
  }
  if (profile.session().state() == v1::SESSION_STATE_FAILED) {
    return absl::DataLossError(profile.session().error());
  }
  return absl::OkStatus();
}

size_t TerminalWidth() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return std::clamp<size_t>(size.ws_col, 40, 160);
}

}  // namespace lbrd::client
